//! Runs the probe's commands on this machine, and remembers them.

use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner, Exit},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{Arc, Mutex},
};

/// A process group that is ended unless its leader has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            kill_process_group(id, Signal::KILL).expect("the group is there");
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Remembering(Mutex<Vec<Command>>);

impl Remembering {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All commands so far.
    pub(crate) fn commands(&self) -> Vec<Command> {
        self.0.lock().unwrap().clone()
    }
}

#[capomastro_core::async_trait]
impl CommandRunner for Remembering {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        self.0.lock().unwrap().push(command.clone());
        let child = tokio::process::Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .envs(&command.env)
            .envs(command.secret_env.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| Error::new(ErrorKind::NotFound, "no such program").with_source(e))?;
        let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it has a process id");
        let mut group = Group(Some(id));
        let output = child.wait_with_output().await.map_err(Error::transient)?;
        group.0 = None;
        let exit = output.status.code().map_or_else(
            || Exit::Signal(output.status.signal().expect("it ended by status or signal")),
            Exit::Code,
        );
        Ok(CommandOutput::new(exit, output.stdout, output.stderr))
    }
}
