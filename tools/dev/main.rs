//! A control plane to develop against: `make controlplane` and `make run`.
//!
//! It goes with this process: on ^C, and also if the process is killed.

use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

#[path = "../../tests/support/mod.rs"]
mod support;
use support::controlplane::Error;
use support::{ControlPlane, ControllerProcess, Identity, install};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("controlplane") => control_plane().await,
        Some("run") => run().await,
        _ => {
            eprintln!("usage: dev controlplane   a control plane without Drydock");
            eprintln!("       dev run            a control plane with Drydock and its controller");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn control_plane() -> Result<ExitCode, Error> {
    let plane = start().await?;
    tell(&plane);
    asked_to_stop().await?;
    stop(plane).await
}

async fn run() -> Result<ExitCode, Error> {
    let plane = start().await?;
    install::everything(&plane).await?;
    let mut controller = ControllerProcess::start(&plane, &[], &[]).await;
    println!("controller ready:    http://{}/metrics", controller.address());
    println!("  its log:           {}", controller.log_file().display());
    tell(&plane);
    tokio::select! {
        biased;
        asked = asked_to_stop() => asked?,
        status = controller.ended() => {
            eprintln!("the controller has ended by itself ({status}); its log ends with:\n{}", controller.tail());
            drop(controller);
            stop(plane).await?;
            return Ok(ExitCode::FAILURE);
        }
    }
    let status = controller.terminate().await;
    println!("controller stopped ({status})");
    drop(controller);
    stop(plane).await
}

async fn start() -> Result<ControlPlane, Error> {
    let begin = Instant::now();
    let plane = ControlPlane::start().await?;
    println!("control plane ready: {} after {:.1?}", plane.url(), begin.elapsed());
    Ok(plane)
}

fn tell(plane: &ControlPlane) {
    println!("  as administrator:  export KUBECONFIG={}", plane.kubeconfig(Identity::Admin).display());
    for person in [Identity::Alice, Identity::Bob] {
        println!("  as a user:         export KUBECONFIG={}", plane.kubeconfig(person).display());
    }
    println!("^C ends it all.");
}

async fn asked_to_stop() -> Result<(), Error> {
    let listen = |kind| signal(kind).map_err(|source| Error::Run { program: "a signal handler".to_owned(), source });
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!();
    Ok(())
}

async fn stop(plane: ControlPlane) -> Result<ExitCode, Error> {
    plane.stop().await.map_err(|source| Error::Run { program: "the end of the control plane".to_owned(), source })?;
    println!("control plane stopped; nothing is left of it");
    Ok(ExitCode::SUCCESS)
}
