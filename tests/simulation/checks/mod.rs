//! What must hold.
use crate::{journal::Journal, time::Clocks};
use std::sync::Arc;

pub struct Checks {}
pub struct Wrong {
    pub text: String,
}
impl Wrong {
    pub fn tell(&self, _: &Journal, _: &Clocks) -> String {
        self.text.clone()
    }
}
impl Checks {
    pub fn new(_: Arc<Clocks>, _: Arc<Journal>) -> Self {
        Self {}
    }
    pub fn catch_up(&mut self) -> Option<Wrong> {
        None
    }
}
