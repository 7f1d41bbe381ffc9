//! What a person (or a machine) sees of a run: bars on a terminal, plain lines elsewhere, JSON lines when asked; and the status file.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use change::Clock;
use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::status_file::StatusFile;
use crate::watch::{Seen, Watch};

/// How a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Bars.
    Terminal,
    /// A line now and then.
    Plain,
    /// A JSON object a second.
    Json,
}

impl Style {
    /// Bars on a terminal, plain lines elsewhere.
    pub(crate) fn fitting(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

const TICK: Duration = Duration::from_millis(500);
const PLAIN_EVERY: u32 = 10;
const SAVE_EVERY: u32 = 4;

/// Shows a run until `done`, then once more.
pub(crate) async fn show(
    watch: Arc<Watch>,
    style: Style,
    file: Arc<StatusFile>,
    clock: Arc<dyn Clock>,
    done: CancellationToken,
) {
    let mut bars = (style == Style::Terminal).then(Bars::new);
    let mut rate = Rate::default();
    let mut shown = String::new();
    for tick in 0_u32.. {
        let last = tokio::select! {
            () = done.cancelled() => true,
            () = tokio::time::sleep(TICK) => false,
        };
        let seen = watch.seen(clock.now());
        rate.update(&seen);
        if (last || tick % SAVE_EVERY == 0)
            && let Err(error) = file.save(&seen)
        {
            tracing::warn!(%error, "the status file was not written");
        }
        match style {
            Style::Terminal => {
                if let Some(bars) = &mut bars {
                    bars.update(&seen, &rate);
                }
            }
            Style::Plain if last || tick % PLAIN_EVERY == 0 => {
                let line = summary(&seen, &rate);
                if line != shown {
                    print_line(&line, true);
                    shown = line;
                }
            }
            Style::Json if last || tick % 2 == 0 => match serde_json::to_string(&seen) {
                Ok(line) => print_line(&line, false),
                Err(error) => tracing::warn!(%error, "a progress line could not be written as JSON"),
            },
            Style::Plain | Style::Json => {}
        }
        if last {
            return;
        }
    }
}

/// One line of text on the stream that is meant for it; a reader that has gone away does not stop the run.
fn print_line(line: &str, progress: bool) {
    let written = if progress { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    if written.is_err() {
        tracing::debug!("nobody reads the progress");
    }
}

/// Rows per second over the last few ticks.
#[derive(Default)]
struct Rate {
    last: Option<(i64, u64)>,
    rows_per_second: f64,
}

impl Rate {
    fn update(&mut self, seen: &Seen) {
        let rows: u64 = seen.tables.values().map(|table| table.rows_cleared).sum();
        if let Some((at, before)) = self.last
            && seen.at > at
        {
            let now = rows.saturating_sub(before) as f64 * 1e6 / (seen.at - at) as f64;
            self.rows_per_second = 0.6 * self.rows_per_second + 0.4 * now;
        }
        self.last = Some((seen.at, rows));
    }
}

/// The run in a line.
fn summary(seen: &Seen, rate: &Rate) -> String {
    let copying = seen.tables.values().filter(|table| !table.copied && table.stopped.is_none()).count();
    let (done, chunks) =
        seen.tables.values().fold((0, 0), |(done, chunks), table| (done + table.chunks_done, chunks + table.chunks));
    let durable: u64 = seen.tables.values().map(|table| table.rows_durable).sum();
    let phase = match copying {
        0 => format!("following {} tables", seen.tables.len()),
        _ => format!("copying {copying} of {} tables, {done}/{chunks} chunks", seen.tables.len()),
    };
    let seconds = seen.tables.values().filter_map(|table| table.lag_seconds).fold(0.0, f64::max);
    let stopped = seen.tables.values().filter(|table| table.stopped.is_some()).count();
    let mut line = format!(
        "{phase}: {} rows durable, {}/s, {} commits, lag {} / {seconds:.1} s",
        HumanCount(durable),
        HumanCount(rate.rows_per_second as u64),
        HumanCount(seen.commits),
        HumanBytes(seen.lag_bytes),
    );
    if stopped > 0 {
        line += &format!(", {stopped} STOPPED (lockgate status says why)");
    }
    if let Some(error) = &seen.last_error {
        let then = if seen.ended { "ended by" } else { "trying again after" };
        line += &format!(", {then}: {}", error.lines().next().unwrap_or_default());
    }
    line
}

/// A bar for each table that is being copied, and a line for the whole.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    tables: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new_spinner());
        total.enable_steady_tick(Duration::from_millis(120));
        Self { all, total, tables: BTreeMap::new() }
    }

    fn update(&mut self, seen: &Seen, rate: &Rate) {
        for (name, table) in &seen.tables {
            let copying = table.chunks > 0 && !table.copied;
            if !copying {
                if let Some(bar) = self.tables.remove(name) {
                    bar.finish_and_clear();
                }
                continue;
            }
            let bar = self.tables.entry(name.clone()).or_insert_with(|| {
                let bar = self.all.insert_before(&self.total, ProgressBar::new(table.chunks));
                if let Ok(style) =
                    ProgressStyle::with_template("{prefix:36!} [{bar:28}] {pos}/{len} chunks, {msg}, {eta} left")
                {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(name.clone());
                bar
            });
            bar.set_length(table.chunks);
            bar.set_position(table.chunks_done);
            bar.set_message(format!("{} rows", HumanCount(table.rows_cleared)));
        }
        self.total.set_message(summary(seen, rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::TableSeen;

    #[test]
    fn the_line_tells_phase_rate_lag_and_stopped_tables() {
        let mut seen = Seen { commits: 3, lag_bytes: 2048, ..Seen::default() };
        seen.tables.insert(
            "db.public.a".into(),
            TableSeen { chunks: 4, chunks_done: 1, rows_durable: 1000, ..TableSeen::default() },
        );
        let line = summary(&seen, &Rate { last: None, rows_per_second: 12.0 });
        assert_eq!(
            line,
            "copying 1 of 1 tables, 1/4 chunks: 1,000 rows durable, 12/s, 3 commits, lag 2.00 KiB / 0.0 s"
        );
        seen.tables.insert(
            "db.public.b".into(),
            TableSeen { copied: true, stopped: Some("why".into()), ..TableSeen::default() },
        );
        assert!(summary(&seen, &Rate::default()).contains("1 STOPPED"));
        seen.last_error = Some("db: away\n  fix: wait".into());
        assert!(summary(&seen, &Rate::default()).ends_with(", trying again after: db: away"));
        seen.ended = true;
        assert!(summary(&seen, &Rate::default()).ends_with(", ended by: db: away"));
    }
}
