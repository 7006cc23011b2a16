//! The chart: what it renders for which values, which values it refuses, and how what it renders works on a real API server.

// Tests run on the machine's own clock, and fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;
use support::helm;

mod helm_test;

mod alerts;
mod argocd;
mod by_kubectl;
mod editors;
mod kinds;
mod life_of_a_release;
mod one_team;
mod only_the_owner;
mod ordinary_user;
mod rights;
mod switches;
mod upgrade;
mod variants;
mod wrong_values;
