use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::process::Command;

/// Cores, processor and memory.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").and_then(|kib| kib.split(' ').next()?.parse::<u64>().ok());
    format!("{cores} cores ({processor}), {} GiB", memory.unwrap_or_default() >> 20)
}

/// The load average of the last 1, 5 and 15 minutes: whoever else works on the machine distorts the figures.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a program says it is.
pub(crate) async fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| {
        format!("{} cannot be started; `cargo x build` makes it, --limits-only does without", program.display())
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
