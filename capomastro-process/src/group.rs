//! Process groups: ended as a whole, also when nobody waits any more.

use rustix::process::{Pid, Signal, kill_process_group};

/// A process group that is killed when this is dropped, unless it was released.
#[derive(Debug)]
pub(crate) struct KillOnDrop(Option<Pid>);

impl KillOnDrop {
    /// The group that `leader` leads.
    pub(crate) fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Kills what is in the group now. Later calls do nothing: once the leader is reaped and the group empty, its number
    /// may belong to somebody else.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            kill(group, Signal::KILL);
        }
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a whole group. That it has ended already is no error.
pub(crate) fn kill(group: Pid, signal: Signal) {
    // Group 0 is our own and group 1 is everybody's.
    if group.as_raw_pid() <= 1 {
        return;
    }
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(group = group.as_raw_pid(), %error, "a process group could not be ended");
    }
}
