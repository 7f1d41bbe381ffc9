use std::collections::BTreeSet;

use change::{ChunkSet, CopyProgress, Error, Kind, Position, Result};
use serde::{Deserialize, Serialize};

use crate::postgres::standing::Standing;

/// Blocks that a chunk holds at most: 64 MiB of table at the usual 8 KiB.
const CHUNK_BLOCKS_MAX: u64 = 8192;

/// Rows in a block when the table was never analysed.
const ROWS_PER_BLOCK_GUESS: f64 = 40.0;

/// A stored table (a partition, or the table itself) as it was when the plan was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaf {
    pub(crate) oid: u32,
    /// Its file on the server's disk; another one means that the rows were rewritten elsewhere and the plan is void.
    pub(crate) filenode: u32,
    /// Its size in blocks. The plan's upper bound is fixed here.
    ///
    /// Nothing is lost beyond it: a row version in a later block was written after the size was read, which was after LOW, so the
    /// transaction that wrote it commits above LOW and the stream carries it. The same holds for a version that an update
    /// moves between chunks while they are read.
    pub(crate) blocks: u32,
    /// Blocks in one chunk.
    pub(crate) step: u32,
}

impl Leaf {
    /// Cuts so that a chunk holds about `chunk_rows` rows, judged by the statistics of the table.
    pub(crate) fn new(oid: u32, filenode: u32, blocks: u32, rows_per_block: Option<f64>, chunk_rows: u64) -> Self {
        let density = rows_per_block.filter(|rows| rows.is_finite() && *rows > 0.0).unwrap_or(ROWS_PER_BLOCK_GUESS);
        let step = ((chunk_rows as f64 / density) as u64).clamp(1, CHUNK_BLOCKS_MAX) as u32;
        Self { oid, filenode, blocks, step }
    }

    fn chunks(&self) -> u32 {
        self.blocks.div_ceil(self.step)
    }
}

/// The form in which plans are written. Plans of the first form do not say which table they are of.
const FORM: u32 = 2;

/// How a table is cut into chunks, and which table that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    #[serde(default = "first_form")]
    form: u32,
    /// The table that was copied; `None` in the first form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Standing>,
    leaves: Vec<Leaf>,
}

fn first_form() -> u32 {
    1
}

/// The blocks that one chunk reads: `from` included, `to` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) oid: u32,
    pub(crate) filenode: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Range {
    /// Cuts it into so many parts of about the same size, or fewer when it has fewer blocks.
    pub(crate) fn parts(self, count: u32) -> impl Iterator<Item = Self> {
        let step = (self.to - self.from).div_ceil(count.max(1)).max(1);
        let ends = move |from: u32| from.saturating_add(step).min(self.to);
        (self.from..self.to).step_by(step as usize).map(move |from| Self { from, to: ends(from), ..self })
    }
}

impl Plan {
    pub(crate) fn new(of: Standing, leaves: Vec<Leaf>) -> Self {
        Self { form: FORM, of: Some(of), leaves }
    }

    /// The table that it is of; `None` when it does not say.
    pub(crate) fn of(&self) -> Option<&Standing> {
        self.of.as_ref()
    }

    /// The stored tables.
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The number of chunks; none when the table was empty.
    pub(crate) fn chunks(&self) -> u32 {
        self.leaves.iter().map(Leaf::chunks).sum()
    }

    /// Whether a stored table of the plan is not among `parts` any more.
    pub(crate) fn has_lost(&self, parts: &BTreeSet<u32>) -> bool {
        self.leaves.iter().any(|leaf| !parts.contains(&leaf.oid))
    }

    /// Whether the stored tables and their files are still those of the plan, in any size.
    pub(crate) fn still_fits(&self, now: &[Leaf]) -> bool {
        let files = |leaves: &[Leaf]| leaves.iter().map(|leaf| (leaf.oid, leaf.filenode)).collect::<Vec<_>>();
        files(&self.leaves) == files(now)
    }

    /// What the chunk reads; `None` for a number that is not in the plan.
    pub(crate) fn range(&self, chunk: u32) -> Option<Range> {
        let mut left = chunk;
        for leaf in &self.leaves {
            if left < leaf.chunks() {
                let from = left * leaf.step;
                let to = from.saturating_add(leaf.step).min(leaf.blocks);
                return Some(Range { oid: leaf.oid, filenode: leaf.filenode, from, to });
            }
            left -= leaf.chunks();
        }
        None
    }

    /// The progress of a copy that begins with this plan at LOW.
    pub(crate) fn begin(&self, low: Position) -> Result<CopyProgress> {
        let done = ChunkSet::default();
        let plan = serde_json::to_string(self)
            .map_err(|e| Error::new(Kind::Bug, "a copy plan cannot be written").source(e))?;
        Ok(CopyProgress { low, plan, chunks: self.chunks(), done, finished: None })
    }

    /// Reads the plan back from a table's checkpoint.
    pub(crate) fn read(progress: &CopyProgress) -> Result<Self> {
        let plan: Option<Self> = serde_json::from_str(&progress.plan).ok();
        plan.filter(|plan| plan.form <= FORM).ok_or_else(|| {
            Error::new(Kind::SourceGone, "the copy plan in the lake was not written by this version's Postgres source")
                .fix("Remove the table's folder from the lake and start again: its copy begins anew.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(oid: u32, blocks: u32, step: u32) -> Leaf {
        Leaf { oid, filenode: oid, blocks, step }
    }

    fn planned(leaves: Vec<Leaf>) -> Plan {
        Plan::new(Standing { table: 7, publication: 8, version: Some(6), entries: vec![9] }, leaves)
    }

    #[test]
    fn chunks_cover_every_block_of_every_leaf_once() {
        let plan = planned(vec![leaf(1, 10, 4), leaf(2, 0, 4), leaf(3, 4, 4)]);
        assert_eq!(plan.chunks(), 3 + 1);
        let ranges: Vec<_> =
            (0..plan.chunks()).filter_map(|chunk| plan.range(chunk)).map(|r| (r.oid, r.from, r.to)).collect();
        assert_eq!(ranges, [(1, 0, 4), (1, 4, 8), (1, 8, 10), (3, 0, 4)]);
        assert_eq!(plan.range(plan.chunks()), None);
        assert_eq!(planned(vec![leaf(1, 0, 4)]).chunks(), 0);
    }

    #[test]
    fn parts_of_a_chunk_cover_its_blocks_once() {
        let parts = |from, to, count| {
            let range = Range { oid: 1, filenode: 2, from, to };
            range.parts(count).map(|part| (part.oid, part.filenode, part.from, part.to)).collect::<Vec<_>>()
        };
        assert_eq!(parts(4, 14, 1), [(1, 2, 4, 14)]);
        assert_eq!(parts(4, 14, 3), [(1, 2, 4, 8), (1, 2, 8, 12), (1, 2, 12, 14)]);
        assert_eq!(parts(4, 6, 9), [(1, 2, 4, 5), (1, 2, 5, 6)]);
        assert_eq!(parts(0, u32::MAX, 1), [(1, 2, 0, u32::MAX)]);
    }

    #[test]
    fn survives_the_checkpoint() {
        let plan = planned(vec![leaf(1, 10, 4)]);
        let progress = plan.begin(Position::from_bytes(b"low")).unwrap();
        assert_eq!(Plan::read(&progress).unwrap(), plan);
        assert_eq!((progress.done.len(), progress.chunks), (0, 3));
        assert_eq!(plan.of().map(|of| of.table), Some(7));
        let with = |text: &str| CopyProgress { plan: text.into(), ..progress.clone() };
        for foreign in ["{}", r#"{"form": 3, "leaves": []}"#] {
            assert_eq!(Plan::read(&with(foreign)).unwrap_err().kind(), Kind::SourceGone);
        }
        let first = Plan::read(&with(r#"{"leaves": [{"oid": 1, "filenode": 1, "blocks": 10, "step": 4}]}"#)).unwrap();
        assert_eq!((first.chunks(), first.of()), (3, None));
    }

    #[test]
    fn a_rewritten_or_added_leaf_voids_the_plan_and_growth_does_not() {
        let plan = planned(vec![leaf(1, 10, 4)]);
        assert!(plan.still_fits(&[leaf(1, 99, 7)]));
        assert!(!plan.still_fits(&[Leaf { filenode: 9, ..leaf(1, 10, 4) }]));
        assert!(!plan.still_fits(&[leaf(1, 10, 4), leaf(2, 1, 4)]));
    }

    #[test]
    fn statistics_decide_the_step_within_bounds() {
        assert_eq!(Leaf::new(1, 1, 9, Some(100.0), 150_000).step, 1500);
        assert_eq!(Leaf::new(1, 1, 9, Some(0.001), 150_000).step, CHUNK_BLOCKS_MAX as u32);
        assert_eq!(Leaf::new(1, 1, 9, Some(1e9), 10).step, 1);
        assert_eq!(Leaf::new(1, 1, 9, Some(f64::NAN), 4000).step, 100);
    }
}
