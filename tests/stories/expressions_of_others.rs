//! Expressions of one tenant take time of that tenant: what another asks for does not wait behind them.

use crate::{
    support::{Identity, Sandbox},
    told::{apply, deadline, ended_at, hosts, lease, uid, was},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// So many leases have come to their ends, and are asked about.
const BUSY: usize = 200;

/// What another waits for may take so long meanwhile: it took more than 80 seconds.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn who_asks_about_many_deadlines_keeps_nobody_else_waiting() {
    let (loud, quiet) = (Sandbox::new("loud").await, Sandbox::new("quiet").await);
    let _controller = loud.controller_for(&[&quiet], &[]).await;
    let numbers: Vec<Value> = (0..40).map(|n| json!(n)).collect();
    let numbers = Value::Array(numbers);
    let unless = format!("{numbers}.all(a, {numbers}.all(b, a + b >= 0))");
    apply(&loud, &hosts(BUSY, json!({"expiry": {"unless": unless, "retryAfter": "1s"}}))).await;
    for n in 0..BUSY {
        apply(&loud, &lease(&format!("l{n}"), json!({"ttl": "5s"}))).await;
    }
    was(&loud, "lease/l0", "declined", |l| deadline(l, "Asking").is_some()).await;

    let began = Instant::now();
    apply(&quiet, &hosts(1, json!({"expiry": {"unless": "false"}}))).await;
    apply(&quiet, &lease("a", json!({"ttl": "3s"}))).await;
    let active = quiet.wait_phase("lease/a", "Active").await;
    assert!(began.elapsed() < SOON, "Active after {:?}", began.elapsed());
    let due = deadline(&active, "Lifetime").unwrap();
    let over = quiet.wait_phase("lease/a", "Destroyed").await;
    ended_at(&quiet, &uid(&over), due).await;
    for lease in loud.list("lease").await {
        assert_eq!(crate::support::phase(&lease), "Active", "it is declined: {lease:?}");
    }
    // Its Blueprint still asks: what takes its time is no fault.
    let blueprint = loud.get("blueprint/pool").await;
    assert_eq!(crate::support::sandbox::condition(&blueprint, "Ready").0, "True");
    loud.delete(Identity::Admin, "blueprint/pool").await;
}
