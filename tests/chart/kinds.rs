//! `crds/`, as a pipeline would install them: with each of kubectl's ways, and by a pipe from the binary.

use crate::support::leash::repository;
use crate::support::{ControlPlane, Identity, controller::binary, documents};

/// What is in `crds/`, in the order of its files' names.
fn kept() -> Vec<serde_json::Value> {
    let mut files: Vec<_> = repository("crds").read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| documents(&std::fs::read_to_string(file).unwrap())).collect()
}

#[tokio::test]
async fn the_kinds_are_installed_in_every_way_that_kubectl_has() {
    let plane = ControlPlane::start().await.unwrap();
    let folder = repository("crds").to_string_lossy().into_owned();
    let piped = plane.folder().join("piped.yaml");
    let printed = std::process::Command::new(binary()).arg("crds").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(documents(&printed), kept(), "`drydock crds` prints what crds/ holds");
    std::fs::write(&piped, printed).unwrap();
    let piped = piped.to_string_lossy().into_owned();
    let kubectl = async |arguments: &[&str]| plane.run_kubectl(Identity::Admin, arguments).await.unwrap();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &folder];
    for way in [&["create"][..], &["apply"], &["apply", "--server-side"]] {
        for file in [&folder, &piped] {
            let made = kubectl(&[way, &["-f", file]].concat()).await;
            assert_eq!(made.lines().count(), 3, "{way:?}: {made}");
            kubectl(&wait).await;
            if way != ["create"] {
                let again = kubectl(&[way, &["-f", file]].concat()).await;
                let unchanged =
                    again.lines().all(|line| line.ends_with(" unchanged") || line.ends_with(" serverside-applied"));
                assert!(unchanged, "{way:?}: {again}");
            }
            kubectl(&["delete", "-f", file]).await;
        }
    }
    plane.stop().await.unwrap();
}
