#!/bin/sh
# Makes sure that the cluster serves Drydock's kinds, and creates those of FOLDER (crds/ of this repository) where it does not.
#
#   kinds.sh FOLDER
#
# Kinds that are there are left as they are: upgrading them is for whoever installs Drydock. To look takes no rights at all; to
# create takes those to create, patch and get customresourcedefinitions.
set -eu

folder=${1:?the folder with the CRDs is needed}

# Tries a few times: an API server may be away for a moment.
insist() {
  for pause in 1 2 4; do
    "$@" && return
    sleep "$pause"
  done
  "$@"
}

# Not api-resources, which fails where any API of the cluster is out of order. A version without kinds is not found.
look() {
  served=$(kubectl get --raw /apis/drydock.dev/v1alpha1 --request-timeout=10s 2>&1) && return
  case $served in *NotFound* | *"could not find the requested resource"*) served='' ;; *) echo "$served" >&2 && return 1 ;; esac
}
insist look
missing=''
for kind in blueprints leases resources; do
  case $served in *"\"name\":\"$kind\""*) ;; *) missing="$missing $kind" ;; esac
done
[ -n "$missing" ] || { echo "kinds: all are served"; exit; }

echo "kinds: not served:$missing"
for kind in $missing; do
  # Server-side, so that two pipelines may do it at once.
  insist kubectl apply --server-side -f "$folder/drydock.dev_$kind.yaml"
  insist kubectl wait --for=condition=Established --timeout=60s -f "$folder/drydock.dev_$kind.yaml"
done
