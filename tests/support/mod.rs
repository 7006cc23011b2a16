//! What the black-box tests, the demo and the tools stand on: a real control plane, Drydock installed in it, the
//! controller as a child process, and for each test namespaces of its own.
//!
//! ```text
//! mod support;
//! use support::{Identity, Sandbox};
//!
//! #[tokio::test]
//! async fn a_free_host_is_leased() {
//!     let sandbox = Sandbox::new("free-host").await;              // on the control plane of this test binary
//!     let _controller = sandbox.controller().await;
//!     sandbox.apply(Identity::Admin, "…yaml…").await.unwrap();
//!     let lease = sandbox.wait_for("lease/a", "Active", |lease| phase(lease) == "Active").await;
//! }
//! ```

// Each test binary uses a part of this.
#![allow(dead_code, unused_imports)]
// Helpers of tests fail a test by panicking, with words that say what was expected.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use tokio::sync::OnceCell;

pub mod controller;
pub mod controlplane;
pub mod credentials;
pub mod helm;
pub mod history;
pub mod install;
pub mod leash;
pub mod metrics;
pub mod sandbox;

pub use controller::ControllerProcess;
pub use controlplane::{ControlPlane, Identity};
pub use history::{History, Seen};
pub use sandbox::{Rights, Sandbox, condition, documents, phase, refusal, resource_of};

/// The one control plane of this test binary, with `install.yaml` installed.
///
/// Started by whoever asks first, and ended when the process ends. Clients belong to a test's runtime, the control plane
/// does not: make clients anew.
pub async fn shared() -> &'static ControlPlane {
    // A start that failed is not tried again: each test says the same at once, instead of after a minute.
    static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    let start = async {
        let plane = ControlPlane::start().await.map_err(|error| error.to_string())?;
        install::everything(&plane).await.map_err(|error| error.to_string())?;
        Ok(plane)
    };
    match SHARED.get_or_init(|| start).await {
        Ok(plane) => plane,
        Err(error) => panic!("no control plane: {error}"),
    }
}

/// A number that differs each time: std seeds its hashers from the system's source of randomness.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
