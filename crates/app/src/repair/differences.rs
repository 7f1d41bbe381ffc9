//! What two sides of a table have of the same keys.

use change::Op;

use super::fingerprint::Print;
use super::tally::Sum;

/// One difference between the lake and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The lake lacks a row of this chunk, or has it otherwise. `of` has the row's key, and the sum of what the lake has of it.
    Write { chunk: u32, op: Op, of: Print },
    /// The source has no row with this key.
    Gone(u128),
}

/// Tells how the rows of some keys differ. Rows of the source come with their chunks: a row that was seen in two has moved meanwhile, and counts
/// in the later one.
pub(crate) fn differences(mut lake: Vec<Print>, mut source: Vec<(u32, Print)>, mut found: impl FnMut(Difference)) {
    lake.sort_unstable_by_key(|print| print.key);
    source.sort_unstable_by_key(|(chunk, print)| (print.key, *chunk));
    let mut stored = lake.chunk_by(|one, other| one.key == other.key).peekable();
    for seen in source.chunk_by(|(_, one), (_, other)| one.key == other.key) {
        let Some((chunk, now)) = seen.last().copied() else { continue };
        while let Some(gone) = stored.next_if(|rows| rows.iter().any(|row| row.key < now.key)) {
            gone.iter().take(1).for_each(|row| found(Difference::Gone(row.key)));
        }
        let mut known = Sum::default();
        if let Some(rows) = stored.next_if(|rows| rows.iter().any(|row| row.key == now.key)) {
            rows.iter().for_each(|row| known.add(row.row));
        }
        if let Some(op) = judge(now, known) {
            found(Difference::Write { chunk, op, of: Print { key: now.key, row: known.prints } });
        }
    }
    stored.for_each(|rows| rows.iter().take(1).for_each(|row| found(Difference::Gone(row.key))));
}

/// What has to be written for a row of the source, when the lake has this of its key.
fn judge(row: Print, known: Sum) -> Option<Op> {
    let mut alone = Sum::default();
    alone.add(row.row);
    match known.rows {
        0 => Some(Op::Insert),
        _ => (known != alone).then_some(Op::Update),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print((key, row): (u128, u128)) -> Print {
        Print { key, row }
    }

    fn of(lake: &[(u128, u128)], source: &[(u32, (u128, u128))]) -> Vec<Difference> {
        let mut all = Vec::new();
        let source = source.iter().map(|(chunk, row)| (*chunk, print(*row))).collect();
        differences(lake.iter().copied().map(print).collect(), source, |difference| all.push(difference));
        all
    }

    #[test]
    fn a_row_is_written_when_the_lake_lacks_it_or_has_it_otherwise_or_twice_and_removed_when_the_source_lacks_it() {
        let lake = [(9, 90), (1, 10), (3, 30), (2, 20), (3, 30), (0, 5), (0, 5)];
        let source = [(4, (1, 10)), (5, (2, 21)), (6, (3, 30)), (7, (4, 40))];
        let write = |chunk, op, of| Difference::Write { chunk, op, of: print(of) };
        assert_eq!(
            of(&lake, &source),
            [
                Difference::Gone(0),
                write(5, Op::Update, (2, 20)),
                write(6, Op::Update, (3, 60)),
                write(7, Op::Insert, (4, 0)),
                Difference::Gone(9),
            ]
        );
        assert_eq!(of(&[], &[]), []);
        assert_eq!(of(&[(1, 1)], &[]), [Difference::Gone(1)]);
    }

    #[test]
    fn a_row_that_moved_while_it_was_read_counts_where_it_was_seen_last() {
        assert_eq!(of(&[(1, 11)], &[(8, (1, 11)), (2, (1, 10))]), []);
        let moved = of(&[(1, 10)], &[(8, (1, 11)), (2, (1, 10))]);
        assert_eq!(moved, [Difference::Write { chunk: 8, op: Op::Update, of: print((1, 10)) }]);
    }
}
