//! What the controller is started with.

use clap::builder::NonEmptyStringValueParser;
use std::net::SocketAddr;

/// Flags of `drydock controller`; each is an environment variable too.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where probes and metrics are served; port 0 picks a free one, which is logged
    #[arg(long, env = "DRYDOCK_HTTP_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,

    /// Namespaces whose Blueprints serve leases that name no Blueprint; `*` means all of them
    #[arg(long, env = "DRYDOCK_SHARED_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',',
          value_parser = NonEmptyStringValueParser::new())]
    pub shared_namespaces: Vec<String>,

    /// Watch these namespaces only; all of them where none is named
    #[arg(long, env = "DRYDOCK_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',',
          value_parser = NonEmptyStringValueParser::new())]
    pub namespaces: Vec<String>,

    /// The Secret with the key by which the controller proves what it has made from templates; one that is empty is filled
    #[arg(long, env = "DRYDOCK_KEY_SECRET", value_name = "NAME", default_value = "drydock-key",
          value_parser = NonEmptyStringValueParser::new())]
    pub key_secret: String,

    /// The namespace of that Secret; default: that of the kubeconfig or service account
    #[arg(long, env = "DRYDOCK_KEY_SECRET_NAMESPACE", value_name = "NAMESPACE")]
    pub key_secret_namespace: Option<String>,

    /// Elect one of several controllers to do the work; nothing but the work saved depends on it
    #[arg(long, env = "DRYDOCK_LEADER_ELECT")]
    pub leader_elect: bool,

    /// The namespace of the coordination Lease; default: that of the kubeconfig or service account
    #[arg(long, env = "DRYDOCK_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,

    /// The name of the coordination Lease: those that share it elect one among them
    #[arg(long, env = "DRYDOCK_LEADER_ELECTION_NAME", value_name = "NAME", default_value = "drydock-controller")]
    pub leader_election_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser, Debug)]
    struct Verb {
        #[command(flatten)]
        options: Options,
    }

    /// A namespace without a name is none: whoever gives it meant another, or all.
    #[test]
    fn namespaces_have_names() {
        for flag in ["--namespaces", "--shared-namespaces"] {
            for wrong in ["", "a,", "a,,b"] {
                let error = Verb::try_parse_from(["controller", flag, wrong]).unwrap_err().to_string();
                assert!(error.contains(flag), "{flag} {wrong:?}: {error}");
            }
        }
        let right = Verb::try_parse_from(["controller", "--namespaces", "a,b"]).unwrap().options;
        assert_eq!(right.namespaces, ["a", "b"]);
    }
}
