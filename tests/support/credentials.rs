//! Who may talk to a control plane of the tests, and how they prove it.
//!
//! People have static tokens, as a plain kube-apiserver allows. The controller is a ServiceAccount, never the admin: a
//! test that ran it as the admin would not notice a right that its ClusterRole lacks.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Somebody who talks to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A member of `system:masters`: may do everything that admission allows.
    Admin,
    /// An ordinary user, without rights until a test grants some.
    Alice,
    /// Another ordinary user, without rights until a test grants some.
    Bob,
    /// The controller's ServiceAccount. Has credentials once Drydock is installed.
    Controller,
}

/// The namespace and the name of the controller's ServiceAccount, as `install.yaml` has them.
pub const CONTROLLER_ACCOUNT: (&str, &str) = ("drydock-system", "drydock");

/// Kubernetes' own controllers. Not an [`Identity`]: no test acts as them.
const CONTROLLER_MANAGER: &str = "controller-manager";

impl Identity {
    /// The name of the credentials, and of the kubeconfig file.
    pub const fn name(self) -> &'static str {
        match self {
            Identity::Admin => "admin",
            Identity::Alice => "alice",
            Identity::Bob => "bob",
            Identity::Controller => "controller",
        }
    }

    /// The user as the API server sees them.
    pub const fn user(self) -> &'static str {
        match self {
            Identity::Controller => "system:serviceaccount:drydock-system:drydock",
            person => person.name(),
        }
    }
}

/// The files of one control plane's credentials.
#[derive(Debug, Clone)]
pub struct Credentials {
    folder: PathBuf,
    url: String,
}

impl Credentials {
    /// Makes certificates, keys, tokens and the people's kubeconfig files in the folder.
    pub fn create(folder: &Path, url: &str) -> Result<Credentials, Error> {
        let credentials = Credentials { folder: folder.to_owned(), url: url.to_owned() };
        credentials.certificates()?;

        let mut tokens = String::new();
        for (name, groups) in [
            (Identity::Admin.name(), "system:masters"),
            (CONTROLLER_MANAGER, "system:masters"),
            (Identity::Alice.name(), ""),
            (Identity::Bob.name(), ""),
        ] {
            let token = secret();
            tokens += &format!("{token},{name},{name},\"{groups}\"\n");
            credentials.write_kubeconfig(name, &token)?;
        }
        credentials.write("tokens.csv", tokens)?;
        Ok(credentials)
    }

    /// The authority, the serving certificate, and the key that signs the tokens of ServiceAccounts with its public half.
    fn certificates(&self) -> Result<(), Error> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "drydock tests");
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let serving = params.signed_by(&key, &authority)?;

        self.write("ca.crt", authority.pem())?;
        self.write("serving.crt", serving.pem())?;
        self.write("serving.key", key.serialize_pem())?;
        let accounts = KeyPair::generate()?;
        self.write("service-accounts.key", accounts.serialize_pem())?;
        self.write("service-accounts.pub", accounts.public_key_pem())
    }

    /// Writes the controller's kubeconfig, with a token that the API server gave.
    pub fn add_controller(&self, token: &str) -> Result<(), Error> {
        // As in a cluster: its default namespace is that of its account.
        self.write_kubeconfig_in(Identity::Controller.name(), token, CONTROLLER_ACCOUNT.0)
    }

    /// Where somebody's kubeconfig is.
    pub fn kubeconfig(&self, identity: Identity) -> PathBuf {
        self.file(&format!("{}.kubeconfig", identity.name()))
    }

    /// Where the kubeconfig of kube-controller-manager is.
    pub fn controller_manager(&self) -> PathBuf {
        self.file(&format!("{CONTROLLER_MANAGER}.kubeconfig"))
    }

    /// Where a file of the credentials is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write_kubeconfig(&self, name: &str, token: &str) -> Result<(), Error> {
        self.write_kubeconfig_in(name, token, "default")
    }

    fn write_kubeconfig_in(&self, name: &str, token: &str, namespace: &str) -> Result<(), Error> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "drydock", "cluster": {"server": self.url, "certificate-authority": self.file("ca.crt")}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "drydock", "user": name, "namespace": namespace}}],
            "current-context": name,
        });
        self.write(&format!("{name}.kubeconfig"), format!("{config:#}\n")) // JSON is YAML, too
    }

    fn write(&self, name: &str, content: String) -> Result<(), Error> {
        // Renamed, so that nobody reads half a file. The folder is open to nobody but its owner.
        let part = self.file(&format!("{name}.part"));
        fs::write(&part, content)
            .and_then(|()| fs::rename(&part, self.file(name)))
            .map_err(|source| Error::Write { path: self.file(name), source })
    }
}

/// Why credentials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key could not be made.
    #[error("making certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Something that nobody guesses.
fn secret() -> String {
    format!("{:016x}{:016x}", super::random(), super::random())
}
