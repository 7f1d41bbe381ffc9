use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use indicatif::{HumanBytes, HumanCount};

use super::latency::Latency;
use super::log::LogProof;
use super::{Proof, Stage};

/// Characters of a value that a sample shows.
const SHOWN: usize = 34;

impl Proof {
    /// Prints the whole proof, samples, and what to try next.
    #[allow(clippy::print_stdout)]
    pub(crate) fn print(&self, stage: &Stage) {
        println!("\n{}", self.samples());
        println!("\n{}", self.tables());
        println!(
            "  content: hash over all cleared values of the lake = hash of a fresh copy of the source through the same gate\n  \
             figures: sums of kept columns and numbers of different tokens = what Postgres counts over its raw rows\n  \
             log: entries of the change log by kind = rows copied + rows that Postgres reported for each committed statement"
        );
        for (table, rows, log) in &self.rows {
            if !rows.wrong.is_empty() {
                println!("  {}: figures that differ: {}", table.name(), rows.wrong.join(", "));
            }
            if !log.holds() {
                println!("  {}: log expected {:?}, found {:?}", table.name(), log.expected, log.found);
            }
        }
        println!("\n{}", self.leak_lines());
        println!("{}", self.latency_lines());
        println!("\nThe lake: {}", stage.lake().display());
        let dir = stage.dir.display();
        println!("Try next (the private Postgres is gone; the lake stays):");
        println!(
            "  lockgate query --dir {dir} \"SELECT m.state, sum(l.paid_amount) AS paid FROM claims_db.public.claim_lines l JOIN claims_db.public.members m ON m.member_id = l.member_id GROUP BY m.state ORDER BY paid DESC\""
        );
        println!(
            "  lockgate query --dir {dir} \"SELECT _lg_op, count(*) FROM claims_db.public.claim_lines__changes GROUP BY _lg_op\""
        );
        println!(
            "  lockgate query --dir {dir} --at 3 \"SELECT status, count(*) FROM claims_db.public.claims GROUP BY status\""
        );
    }

    fn tables(&self) -> Table {
        let mut table = drawn(&["table", "source rows", "lake rows", "content", "figures", "log entries", "proof"]);
        for (name, rows, log) in &self.rows {
            let same = if rows.contents.0 == rows.contents.1 {
                format!("{:08x} equal", rows.contents.0 as u32)
            } else {
                "DIFFERS".into()
            };
            let entries = |log: &LogProof| HumanCount(log.found.values().sum()).to_string();
            table.add_row([
                Cell::new(name.name()),
                right(HumanCount(rows.source_rows.unsigned_abs()).to_string()),
                right(HumanCount(rows.lake_rows).to_string()),
                Cell::new(same),
                right(format!("{} of {} equal", rows.figures - rows.wrong.len(), rows.figures)),
                right(entries(log)),
                verdict(rows.holds() && log.holds()),
            ]);
        }
        table
    }

    fn samples(&self) -> String {
        let mut all = String::new();
        for sample in &self.samples {
            let mut table = drawn(&[sample.table.name(), "source (invented)", "lake"]);
            for (column, before, after) in &sample.values {
                let after = match after {
                    Some(after) if after.is_empty() && !before.is_empty() => Cell::new("null").fg(Color::DarkGrey),
                    Some(after) => Cell::new(short(after)),
                    None => Cell::new("not stored").fg(Color::DarkGrey),
                };
                table.add_row([Cell::new(column), Cell::new(short(before)), after]);
            }
            all.push_str(&format!("{table}\n"));
        }
        all
    }

    fn leak_lines(&self) -> String {
        let leaks = &self.leaks;
        let mut text = format!(
            "Leaks: {} planted identifiers; in the lake: {} found in {} files and {} (raw, pages decompressed, columns decoded); \
             the same search in the source's own files: {} found. {}",
            leaks.planted,
            leaks.in_lake.len(),
            HumanCount(leaks.files),
            HumanBytes(leaks.bytes),
            leaks.in_source,
            if leaks.holds() { "ok" } else { "FAILED" }
        );
        for (path, column) in &leaks.in_lake {
            text.push_str(&format!("\n  a value of {column} lies in {}", path.display()));
        }
        text
    }

    fn latency_lines(&self) -> String {
        let line = |sorted: &[i64]| {
            let at = |percent| {
                Latency::percentile(sorted, percent).map_or("-".to_owned(), |us| format!("{:.2} s", us as f64 / 1e6))
            };
            format!("p50 {}, p99 {} ({} rows)", at(50), at(99), HumanCount(sorted.len() as u64))
        };
        format!(
            "Source commit to queryable: {}; around the kill: {}",
            line(&self.latency.running),
            line(&self.latency.killed)
        )
    }
}

fn drawn(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn verdict(holds: bool) -> Cell {
    if holds { Cell::new("ok").fg(Color::Green) } else { Cell::new("FAILED").fg(Color::Red) }
}

fn short(value: &str) -> String {
    let one_line: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if value.chars().count() > SHOWN { format!("{one_line}...") } else { one_line }
}
