//! Runs the probe's commands on this machine, and remembers them.

use capomastro_core::{
    Result,
    command::{Command, CommandOutput, CommandRunner},
};
use capomastro_process::ProcessRunner;
use std::sync::{Arc, Mutex};

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
        ProcessRunner::new().run(command).await
    }
}
