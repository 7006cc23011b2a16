//! `/livez`, `/readyz` and `/metrics`.

use super::{shell::Shell, watches::Health};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// So many pools are looked at before others may have the index.
const POOLS: usize = 32;

/// What the probes look at.
#[derive(Clone)]
pub struct Probes {
    /// The shell, for its clock, index and counters.
    pub shell: Arc<Shell>,
    /// The watches.
    pub health: Arc<Health>,
    /// Another controller does the work; this one is ready to take over.
    pub standing_by: Arc<AtomicBool>,
}

/// The routes.
pub fn router(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn livez(State(probes): State<Probes>) -> impl IntoResponse {
    say(probes.health.silent(probes.shell.clock.uptime()), "alive\n", "silent for too long")
}

async fn readyz(State(probes): State<Probes>) -> impl IntoResponse {
    if probes.standing_by.load(Ordering::Relaxed) {
        return (StatusCode::OK, "standing by: another controller is elected\n".to_owned());
    }
    let mut waits_for = probes.health.waits_for();
    if waits_for.is_empty() && !probes.shell.is_running() {
        waits_for.push("the first pass".into());
    }
    say(waits_for, "ready\n", "waiting for")
}

fn say(wrong: Vec<String>, right: &str, what: &str) -> (StatusCode, String) {
    if wrong.is_empty() {
        return (StatusCode::OK, right.to_owned());
    }
    let lines: String = wrong.iter().map(|line| format!("{what} {line}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let mut gauges = super::lock(&probes.shell.index).gauges();
    // The index is not held for long, however many pools there are.
    let pools = super::lock(&probes.shell.index).pool_keys();
    for some in pools.chunks(POOLS) {
        gauges.pools.extend(super::lock(&probes.shell.index).pools(some));
    }
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], probes.shell.metrics.text(&gauges))
}
