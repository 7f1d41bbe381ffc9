use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use sandbox::PrivatePostgres;

use crate::machine;
use crate::options::{Figure, Options};

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    what: String,
    ours: String,
    beside: String,
    ratio: String,
    aim: String,
}

impl Line {
    /// A line about `what`.
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// What was measured of Lockgate.
    pub(crate) fn ours(mut self, text: impl Into<String>) -> Self {
        self.ours = text.into();
        self
    }

    /// What was measured of the limit or the peer.
    pub(crate) fn beside(mut self, text: impl Into<String>) -> Self {
        self.beside = text.into();
        self
    }

    /// The one over the other.
    pub(crate) fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2}");
        self
    }

    /// What was hoped for.
    pub(crate) fn aim(mut self, aim: &str) -> Self {
        self.aim = aim.to_owned();
        self
    }

    pub(crate) fn markdown(&self) -> String {
        let cells = [&self.what, &self.ours, &self.beside, &self.ratio, &self.aim];
        format!("| {} |\n", cells.map(|text| cell(text)).join(" | "))
    }
}

/// A table of its own, for what has more sides than a line can show.
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What the reader has to know beside it.
    pub(crate) notes: Vec<String>,
}

impl Sheet {
    fn markdown(&self) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = row(self.columns.iter().map(|&name| name.to_owned()).collect());
        let rule = row(self.columns.iter().map(|_| "---".to_owned()).collect());
        let rows: String = self.rows.iter().map(|cells| row(cells.iter().map(|text| cell(text)).collect())).collect();
        let notes: String = self.notes.iter().map(|note| format!("- {note}\n")).collect();
        format!("\n{}\n\n{head}{rule}{rows}\n{notes}", self.title)
    }
}

/// A text that cannot break a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The table of all figures, and what it was measured on.
pub(crate) struct Report {
    head: String,
    body: String,
    sheets: String,
    failed: Vec<&'static str>,
}

impl Report {
    /// A table without figures; says what the machine is and how busy it is.
    pub(crate) async fn new(options: &Options) -> Result<Self> {
        let program = match options.limits_only {
            true => "only what Lockgate is compared with".to_owned(),
            false => machine::version(&options.lockgate).await?,
        };
        let head = format!("{}; {program}; load average before: {}\n", machine::describe(), machine::load());
        Ok(Self { head, body: String::new(), sheets: String::new(), failed: Vec::new() })
    }

    /// Names the server.
    pub(crate) fn server(&mut self, server: &PrivatePostgres) {
        self.head.push_str(&format!("Postgres {}, fsync off, on the same machine\n", server.installed().version));
    }

    /// Adds a figure, or that it failed and why: the other figures are measured all the same.
    pub(crate) fn add(&mut self, figure: Figure, lines: Result<Vec<Line>>) {
        let lines = lines.unwrap_or_else(|error| {
            say(&format!("{} failed: {error:#}", figure.name()));
            self.failed.push(figure.name());
            vec![Line::of("failed").ours(format!("{error:#}"))]
        });
        self.body.push_str(&format!("| **{}** | | | | |\n", figure.title()));
        lines.iter().for_each(|line| self.body.push_str(&line.markdown()));
    }

    /// Adds a table of its own after the others; the figure's lines name it.
    pub(crate) fn attach(&mut self, sheet: &Sheet) -> Vec<Line> {
        self.sheets.push_str(&sheet.markdown());
        vec![Line::of(format!("a table of its own, below: {}", sheet.title))]
    }

    /// Writes what there is.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(file, self.text())?)
    }

    /// Prints the table; fails when a figure did.
    #[allow(clippy::print_stdout)]
    pub(crate) fn finish(&self, file: &Path) -> Result<()> {
        println!("{}", self.text());
        self.save(file)?;
        say(&format!("written to {}; load average now: {}", file.display(), machine::load()));
        if !self.failed.is_empty() {
            bail!("not measured: {}", self.failed.join(", "));
        }
        Ok(())
    }

    fn text(&self) -> String {
        let columns = "| Figure | Lockgate | Beside it | Ratio | Aim |\n| --- | --- | --- | --- | --- |\n";
        format!("{}\n{columns}{}{}", self.head, self.body, self.sheets)
    }
}

/// A line about progress.
#[allow(clippy::print_stderr)]
pub(crate) fn say(text: &str) {
    eprintln!("-- {text}");
}

/// `1.42 s` or `9.6 ms`.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}

/// `412 K/s` or `9.6 M/s`.
pub(crate) fn rate(number: u64, time: Duration) -> String {
    match number as f64 / time.as_secs_f64() {
        rate if rate >= 1e6 => format!("{:.1} M/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0} K/s", rate / 1e3),
        rate => format!("{rate:.0}/s"),
    }
}

/// `10 M`, `250 K` or `731`.
pub(crate) fn count(number: u64) -> String {
    match number {
        1_000_000.. if number.is_multiple_of(1_000_000) => format!("{} M", number / 1_000_000),
        1_000_000.. => format!("{:.2} M", number as f64 / 1e6),
        10_000.. => format!("{} K", number / 1_000),
        _ => number.to_string(),
    }
}

/// `381 MiB`.
pub(crate) fn memory(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(time(Duration::from_micros(9_640)), "9.6 ms");
        assert_eq!(time(Duration::from_millis(1_420)), "1.42 s");
        assert_eq!(rate(824_000, Duration::from_secs(2)), "412 K/s");
        assert_eq!(count(10_000_000), "10 M");
        assert_eq!(count(1_999_512), "2.00 M");
        assert_eq!(count(100_000), "100 K");
        assert_eq!(memory(400 << 20), "400 MiB");
    }

    #[test]
    fn a_sheet_has_its_own_columns_and_its_notes_below() {
        let sheet = Sheet {
            title: "T".to_owned(),
            columns: vec!["", "a"],
            rows: vec![vec!["x|y".to_owned(), "1".to_owned()]],
            notes: vec!["n".to_owned()],
        };
        assert_eq!(sheet.markdown(), "\nT\n\n|  | a |\n| --- | --- |\n| x\\|y | 1 |\n\n- n\n");
    }

    #[test]
    fn a_cell_cannot_break_the_table() {
        let line = Line::of("a|b").ours("c\nd").ratio(0.612).aim("0.6 or more").markdown();
        assert_eq!(line, "| a\\|b | c d |  | 0.61 | 0.6 or more |\n");
    }
}
