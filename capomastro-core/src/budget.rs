//! How often, and how many at once.
use crate::time::Monotonic;
use std::time::Duration;
/// A budget.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Budget {}
/// Its use.
#[derive(Debug)]
pub struct Bucket;
/// The answer.
#[derive(Debug)]
pub enum Grant {
    /// Yes.
    Granted,
    /// Not yet.
    Wait(Duration),
}
impl Bucket {
    /// New.
    pub fn new(_: Budget, _: Monotonic) -> Self {
        Self
    }
    /// Take.
    pub fn take(&mut self, _: Monotonic) -> Grant {
        Grant::Granted
    }
    /// Back.
    pub fn give_back(&mut self) {}
    /// Idle.
    pub fn is_idle(&self, _: Monotonic) -> bool {
        true
    }
}
