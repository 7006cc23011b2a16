//! The shell: watches → index → lifecycle → driver → one write.

pub mod options;
