//! Drydock: a Kubernetes controller that leases scarce working environments, takes them back on a deadline, and tears
//! them down without fail. The map of the house is in CONTRIBUTING.md.

#[macro_use]
#[doc(hidden)]
pub mod deliberate;

pub mod api;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod driver;
pub mod expression;
pub mod lifecycle;
