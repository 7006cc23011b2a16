//! helm, and what it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use super::documents;
use super::leash::repository;

/// The Kubernetes that is rendered for, where a test does not say.
const KUBERNETES: &str = "--kube-version=1.36.0";

/// The path of a program, `helm`, `glua` or `promtool`: found or built once.
pub fn program(name: &str) -> PathBuf {
    let found = Command::new(repository("tools/controlplane/programs")).arg(name).output().unwrap();
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    let path = said.trim().strip_prefix(&format!("{name}="));
    path.unwrap_or_else(|| panic!("{name}: {}", String::from_utf8_lossy(&found.stderr))).into()
}

/// The path of helm.
fn helm_program() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("helm"))
}

/// Runs helm with these arguments, in a folder for its own files.
pub fn helm(arguments: &[&str], kubeconfig: Option<&Path>) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(helm_program());
    command.args(arguments).env("HELM_CACHE_HOME", home.path()).env("HELM_CONFIG_HOME", home.path());
    command.env("HELM_DATA_HOME", home.path()).env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/nowhere")));
    command.output().unwrap()
}

/// The folder of the chart.
pub fn chart() -> String {
    repository("charts/drydock").to_string_lossy().into_owned()
}

/// The files with values that `charts/drydock/ci` has.
pub fn variants() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        repository("charts/drydock/ci").read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

/// What is rendered with these arguments, or what helm says against it.
pub fn template(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let fixed = ["template", "drydock", &chart, "--namespace=drydock-system"];
    // The last of them counts.
    let output = helm(&[&fixed[..], &[KUBERNETES], arguments].concat(), None);
    match output.status.success() {
        true => Ok(documents(&String::from_utf8(output.stdout).unwrap())),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What is rendered with these values instead of the defaults, or what helm says against them.
pub fn try_values(values: &Value) -> Result<Vec<Value>, String> {
    let settings: Vec<String> =
        values.as_object().unwrap().iter().map(|(k, v)| format!("--set-json={k}={v}")).collect();
    template(&settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What is rendered with these values instead of the defaults.
pub fn values(values: Value) -> Vec<Value> {
    try_values(&values).unwrap_or_else(|said| panic!("{values}: {said}"))
}

/// The object of this kind and name, `Deployment/drydock`.
pub fn find<'r>(rendered: &'r [Value], name: &str) -> Option<&'r Value> {
    rendered.iter().find(|object| self::name(object) == name)
}

/// The object of this kind and name; fails the test where there is none.
pub fn get<'r>(rendered: &'r [Value], name: &str) -> &'r Value {
    find(rendered, name).unwrap_or_else(|| panic!("no {name} in {:?}", names(rendered)))
}

/// Kind and name.
pub fn name(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

/// Kinds and names.
pub fn names(rendered: &[Value]) -> Vec<String> {
    rendered.iter().map(name).collect()
}

/// Whether it is there for helm's own tests only.
pub fn is_hook(object: &Value) -> bool {
    !object["metadata"]["annotations"]["helm.sh/hook"].is_null()
}
