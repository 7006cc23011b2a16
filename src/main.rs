//! The `drydock` binary.

fn main() {}
