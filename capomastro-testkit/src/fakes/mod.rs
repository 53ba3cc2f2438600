//! Stand-ins for time, randomness, sources, build systems and locks.
//!
//! All are cheap to clone, and clones share one state: give one clone to the scheduler and keep another in the test.
//! None needs a runtime, sleeps, or draws on the machine's clock or randomness, so a test that uses only these runs the
//! same way every time.

mod clock;
mod launcher;
mod lock;
mod probe;
mod random;
pub(crate) mod world;

pub use clock::ManualClock;
pub use launcher::{ControllableLauncher, FakeBuild, LaunchAnswer, Mode, PendingLaunch};
pub use lock::ExpiringLock;
pub use probe::ScriptedProbe;
pub use random::SeededRandom;
