# syntax=docker/dockerfile:1
# Drydock's image: one static binary, the certificates of public authorities, and nothing else.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" -t registry.example.com/drydock:0.1.0 .
#   docker build --platform linux/arm64 …     cross-compiled: nothing is emulated
#
# Where there is no registry to pull a base image from, `make image` builds the last stage from a binary that was built before
# (BINARY=prebuilt).

# Where the binary comes from: built or prebuilt.
ARG BINARY=built
ARG RUST=1.95

FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST}-slim-bookworm AS built
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /source
RUN case $TARGETARCH in amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; *) echo "no build for '$TARGETARCH'" >&2; exit 1 ;; esac \
  && if [ "$BUILDARCH" != "$TARGETARCH" ]; then cross="gcc-$(echo $cpu | tr _ -)-linux-gnu libc6-dev-$TARGETARCH-cross"; fi \
  && apt-get update && apt-get install --yes --no-install-recommends ca-certificates $cross \
  && rustup target add $cpu-unknown-linux-musl \
  && printf '%s\n' \
       '[build]' "target = '$cpu-unknown-linux-musl'" \
       "[target.$cpu-unknown-linux-musl]" "linker = '$cpu-linux-gnu-gcc'" \
       '[env]' "CC_${cpu}_unknown_linux_musl = '$cpu-linux-gnu-gcc'" \
       '[profile.release]' "strip = 'debuginfo'" >"$CARGO_HOME/config.toml"
# The dependencies alone: this layer stays until the manifests change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs && cargo build --release --locked --bin drydock
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin drydock \
  && mkdir --parents /image/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
  && cp target/*-unknown-linux-musl/release/drydock /image/

# From a context that has the folder image/ as the stage above makes it.
FROM scratch AS prebuilt
COPY image/ /image/

FROM ${BINARY} AS binary

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="drydock" \
      org.opencontainers.image.description="Leases scarce environments on Kubernetes, takes them back on a deadline, and tears them down without fail" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY --from=binary /image/ /
USER 65532:65532
ENTRYPOINT ["/drydock"]
CMD ["controller"]
