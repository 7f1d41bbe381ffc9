use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use sandbox::claims::Tally;

use super::runner::Progress;

/// Calls to [`Screen::live`] and [`Screen::waiting`] between two plain lines.
const PLAIN_EVERY: u32 = 20;

/// What a person sees while the demo runs: a line that moves on a terminal, now and then a plain line elsewhere.
pub(crate) struct Screen {
    bar: Option<ProgressBar>,
    calls: u32,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, calls: 0 }
    }

    /// A line that stays.
    pub(crate) fn step(&mut self, text: &str) {
        self.calls = 0;
        match &self.bar {
            Some(bar) => bar.println(format!("> {text}")),
            None => print_line(&format!("> {text}")),
        }
    }

    /// Nothing is being changed: how far Lockgate is.
    pub(crate) fn waiting(&mut self, progress: &Progress) {
        self.show(format!("{} tables copied, {}", progress.tables_copied, lake(progress)));
    }

    /// Changes are being made: how far both sides are.
    pub(crate) fn live(&mut self, passed: Duration, whole: Duration, tally: &Tally, progress: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(whole.as_millis() as u64);
            bar.set_position(passed.min(whole).as_millis() as u64);
        }
        let source = format!("{} changes in {} transactions", HumanCount(tally.rows()), HumanCount(tally.transactions));
        let state = if progress.alive { lake(progress) } else { "Lockgate is DEAD".to_owned() };
        self.show(format!("{:>2}/{} s | source: {source} | {state}", passed.as_secs(), whole.as_secs()));
    }

    /// Takes the moving line away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.calls.is_multiple_of(PLAIN_EVERY) => print_line(&text),
            None => {}
        }
        self.calls += 1;
    }
}

fn lake(progress: &Progress) -> String {
    format!(
        "lake: {} rows logged in {} commits, lag {} / {:.1} s",
        HumanCount(progress.rows),
        HumanCount(progress.commits),
        HumanBytes(progress.lag_bytes),
        progress.lag_seconds
    )
}

/// One line on standard error; a reader that has gone away does not stop the demo.
fn print_line(text: &str) {
    if writeln!(std::io::stderr(), "{text}").is_err() {
        tracing::debug!("nobody reads the demo's progress");
    }
}
