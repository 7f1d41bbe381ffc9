//! A `lockgate run` whose words are kept.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::project::Project;
use super::patience::until;

/// A `lockgate run` that goes on until it ends, is killed or told to stop.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(project: &Project) -> Self {
        Self::of(&mut project.command(&["run"]), project.dir.join("run.log"))
    }

    /// Starts `command`; what it says goes to the file `log`, after what is there.
    pub(crate) fn of(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// What it has said, all processes with this log together.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end by itself; the exit code and what it has said.
    pub(crate) async fn end(mut self, seconds: u64) -> (Option<i32>, String) {
        until("the run ends by itself", seconds, async || self.has_ended()).await;
        (self.child.wait().unwrap().code(), self.said())
    }

    /// Sends `STOP`, `CONT`, ...
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn memory_mib_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing may outlive a failed test; a process that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
