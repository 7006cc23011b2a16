//! The controller and the command line where the API server is behind a proxy: by the variables of the environment, and by the
//! kubeconfig's `proxy-url`.

use crate::{
    story_41_and_49_the_command_line::{Running, alices},
    support::{Identity, Sandbox, controller::binary, sandbox::documents},
    told::holds_throughout,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
};

/// What nobody but the proxy finds.
const SERVER: &str = "api.behind-a-proxy.invalid:6443";

/// A proxy that leads to the API server of a sandbox, whatever it is asked for, and keeps what that was.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn to(sandbox: &Sandbox<'_>) -> Proxy {
        let server = sandbox.plane().url().trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let record = asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, server.clone(), record.clone()));
            }
        });
        Proxy { url, asked }
    }

    /// What it was asked for so far.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn tunnel(mut client: TcpStream, server: String, record: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    record.lock().unwrap().push(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
    let mut server = TcpStream::connect(server).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The kubeconfig of somebody to whom the API server has a name that only the proxy knows, and with this in its cluster.
fn kubeconfig(sandbox: &Sandbox<'_>, who: Identity, folder: &Path, more: Value) -> PathBuf {
    let mut kubeconfig = documents(&fs::read_to_string(sandbox.plane().kubeconfig(who)).unwrap()).remove(0);
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    crate::told::merge(cluster, json!({"server": format!("https://{SERVER}"), "tls-server-name": "localhost"}));
    crate::told::merge(cluster, more);
    let path = folder.join(format!("{who:?}"));
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

#[tokio::test]
async fn the_controller_and_the_verbs_work_behind_a_proxy() {
    let sandbox = Sandbox::new("proxy").await;
    let proxy = Proxy::to(&sandbox).await;
    let folder = tempfile::tempdir().unwrap();
    let _controller = Command::new(binary())
        .args(["controller", "--http-address", "127.0.0.1:0", "--namespaces", sandbox.namespace()])
        .env("KUBECONFIG", kubeconfig(&sandbox, Identity::Controller, folder.path(), json!({})))
        .env("HTTPS_PROXY", &proxy.url)
        .env("NO_PROXY", "10.0.0.0/8,.svc")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    alices(&sandbox, 2, json!({})).await;
    let asks = vec![format!("CONNECT {SERVER} HTTP/1.1")];
    let verb = |name: &'static str, kubeconfig: &Path, set: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        command.envs(set.iter().copied());
        let kubeconfig = kubeconfig.display().to_string();
        let arguments = ["lease", "--type", "host", "--wait", "--kubeconfig", &kubeconfig, name];
        Running::start_by(command, &sandbox, Identity::Alice, &arguments).end()
    };

    let plain = kubeconfig(&sandbox, Identity::Alice, folder.path(), json!({}));
    assert_eq!(verb("by-the-environment", &plain, &[("HTTPS_PROXY", &proxy.url)]).await.done(), ["by-the-environment"]);
    let asked = proxy.asked();
    assert!(asked.len() > 1 && asked.iter().all(|line| *line == asks[0]), "the controller and the verb: {asked:?}");

    // Whom NO_PROXY names is asked directly, which fails here.
    let direct = [("HTTPS_PROXY", proxy.url.as_str()), ("NO_PROXY", "behind-a-proxy.invalid")];
    verb("directly", &plain, &direct).await.failed(1, &["cannot reach the API server"]);

    let written = kubeconfig(&sandbox, Identity::Alice, folder.path(), json!({"proxy-url": proxy.url}));
    assert_eq!(verb("by-the-kubeconfig", &written, &[("NO_PROXY", "*")]).await.done(), ["by-the-kubeconfig"]);
    assert_eq!(proxy.asked(), asks);
    holds_throughout(&sandbox).await;
}
