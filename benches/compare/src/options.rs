use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

/// Measures Lockgate beside the physical limit or a peer, and prints one table.
#[derive(Parser, Debug, Clone)]
#[command(name = "compare", max_term_width = 100)]
pub(crate) struct Options {
    /// The figures to measure; all but `peers` when none is named
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// The optimised program under test
    #[arg(long, default_value = "bin/lockgate", value_name = "PROGRAM")]
    pub(crate) lockgate: PathBuf,
    /// Measure only what Lockgate is compared with
    #[arg(long)]
    pub(crate) limits_only: bool,
    /// The Python that has `deltalake` and `pyarrow`; what needs it is left out when it is missing
    #[arg(long, default_value = ".tools/venv/bin/python", value_name = "PROGRAM")]
    pub(crate) python: PathBuf,
    /// The Python that has the peers; `scripts/setup.sh peers` installs it
    #[arg(long, default_value = ".tools/peers/bin/python", value_name = "PROGRAM")]
    pub(crate) peers_python: PathBuf,
    /// Where the table is written, as Markdown
    #[arg(long, default_value = "target/bench.md", value_name = "FILE")]
    pub(crate) report: PathBuf,
    /// Folder for lakes and peers' tables: about 6 GB are used and removed again
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    pub(crate) scratch: PathBuf,
    /// Where the kernels' benches have left their figures
    #[arg(long, default_value = "target/criterion", value_name = "FOLDER")]
    pub(crate) criterion: PathBuf,
    /// How often what is cheap is measured; the median counts
    #[arg(long, default_value_t = 3, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Rows of `claim_lines`
    #[arg(long, default_value_t = 2_000_000, value_name = "ROWS")]
    pub(crate) rows: u64,
    /// Changes in the backlog; less than twice the rows
    #[arg(long, default_value_t = 500_000, value_name = "CHANGES")]
    pub(crate) changes: u64,
    /// Sizes of the tables that 10,000 keys are changed in
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000", value_name = "ROWS")]
    pub(crate) upsert_rows: Vec<u64>,
    /// Changes a second of the steady load
    #[arg(long, default_value_t = 5_000, value_name = "CHANGES")]
    pub(crate) rate: u32,
    /// How long the steady load lasts
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) steady_seconds: u64,
    /// How long changes may wait for a commit under the steady load
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub(crate) commit_seconds: f64,
}

/// One figure, or several that are measured together.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// First copy of one table, beside COPY to nowhere
    Copy,
    /// CPU of a first copy and of a backlog under a policy of 40 columns, beside one that keeps them all
    Masking,
    /// Stored rows remasked and brought to a new key, beside a plain rewrite of their files
    Remask,
    /// Catching up with a backlog, beside pg_recvlogical to nowhere
    Backlog,
    /// Commit of 10,000 changed keys by size of the table, beside delta-rs MERGE
    Upsert,
    /// Freshness, memory and the writer's latency under a steady load
    Steady,
    /// The same history taken by Lockgate, Debezium and dlt, with kills
    Peers,
    /// Values a second of each transform of the gate
    Kernels,
}

impl Figure {
    /// The figure's name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Figure::Copy => "copy",
            Figure::Masking => "masking",
            Figure::Remask => "remask",
            Figure::Backlog => "backlog",
            Figure::Upsert => "upsert",
            Figure::Steady => "steady",
            Figure::Peers => "peers",
            Figure::Kernels => "kernels",
        }
    }

    /// What it shows, in a line.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Figure::Copy => "First copy to committed Delta tables",
            Figure::Masking => "What a policy costs",
            Figure::Remask => "Stored rows under another policy or key",
            Figure::Backlog => "Backlog of inserts, updates and deletes, durable and confirmed",
            Figure::Upsert => "Commit of 10,000 changed keys",
            Figure::Steady => "Steady load",
            Figure::Peers => "Beside its peers",
            Figure::Kernels => "Gate kernels, one core",
        }
    }
}

impl Options {
    /// What a stage for other shapes needs of them; the rest as it is by default.
    pub(crate) fn for_scale(lockgate: &Path, python: &Path, scratch: &Path) -> Self {
        let defaults = Self::parse_from(["compare"]);
        Self { lockgate: lockgate.to_owned(), python: python.to_owned(), scratch: scratch.to_owned(), ..defaults }
    }

    /// The figures that were asked for, in the order of the table.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        // The peers are an installation of their own, and slow.
        let usual = |figure: &Figure| self.figures.is_empty() && *figure != Figure::Peers;
        let wanted = |figure: &Figure| usual(figure) || self.figures.contains(figure);
        Figure::value_variants().iter().copied().filter(wanted).collect()
    }
}
