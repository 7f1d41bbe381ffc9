//! `verify`: what differs, and stays so.

use std::collections::HashMap;
use std::time::Duration;

use capture::postgres::Reread;
use change::{Error, Kind, Result};
use lake::{Lake, Layer};
use serde::Serialize;

use super::sides::Sides;
use super::tally::Sum;

/// Looks at what differs before it is left undecided.
const LOOKS: u32 = 5;
/// How long a run may take to bring the lake to where the source was.
const CATCH_UP: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What a comparison of one table came to; all are numbers of rows.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// In the source.
    pub(crate) source: u64,
    /// In the lake.
    pub(crate) lake: u64,
    /// In the source and not in the lake.
    pub(crate) missing: u64,
    /// In the lake and not in the source.
    pub(crate) surplus: u64,
    /// In both, with other values.
    pub(crate) different: u64,
    /// Changed so often while they were looked at that nothing can be said.
    pub(crate) undecided: u64,
}

impl Verdict {
    /// Whether nothing differs for certain.
    pub(crate) fn is_equal(&self) -> bool {
        (self.missing, self.surplus, self.different) == (0, 0, 0)
    }

    fn count(&mut self, seen: &Seen) {
        let Seen { source, lake, .. } = seen;
        self.missing += source.rows.saturating_sub(lake.rows);
        self.surplus += lake.rows.saturating_sub(source.rows);
        if source.rows == lake.rows && source != lake {
            self.different += source.rows;
        }
    }
}

/// The rows of one key on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    source: Sum,
    lake: Sum,
    /// Where in the stream the lake's rows were changed last.
    place: u128,
}

type Looked = HashMap<u128, Seen>;

/// Compares a table. `running`: a run keeps the lake current meanwhile.
///
/// # Errors
/// Those of the source and of the lake.
pub(crate) async fn verify(sides: &mut Sides<'_>, reader: &Reread, lake: &Lake, running: bool) -> Result<Verdict> {
    let survey = sides.survey().await?;
    let mut verdict = Verdict::default();
    if let Some((source, lake)) = survey.rows {
        (verdict.source, verdict.lake) = (source, lake);
    }
    for part in &survey.parts {
        let mut looked = Looked::new();
        look_at_lake(sides, &mut looked, |key| part.holds(key)).await?;
        look_at_source(sides, &mut looked, |key| part.holds(key)).await?;
        if survey.rows.is_none() {
            verdict.source += looked.values().map(|seen| seen.source.rows).sum::<u64>();
            verdict.lake += looked.values().map(|seen| seen.lake.rows).sum::<u64>();
        }
        looked.retain(|_, seen| seen.source != seen.lake);
        if running {
            looked = settle(sides, reader, lake, looked, &mut verdict).await?;
            verdict.undecided += looked.len() as u64;
        } else {
            looked.values().for_each(|seen| verdict.count(seen));
        }
    }
    Ok(verdict)
}

/// Looks again at what differs until it is equal or stays as it is; gives back what does neither.
async fn settle(
    sides: &mut Sides<'_>,
    reader: &Reread,
    lake: &Lake,
    mut before: Looked,
    verdict: &mut Verdict,
) -> Result<Looked> {
    for look in 0..LOOKS {
        if before.is_empty() {
            break;
        }
        let table = sides.gate.schema().table.clone();
        let stored = || async {
            let found = lake.stored(&table, Layer::Current).await?;
            found.ok_or_else(|| Error::new(Kind::Conflict, format!("{table}: it left the lake while it was compared")))
        };
        sides.anew(stored().await?).await?;
        let mut now: Looked = before.keys().map(|key| (*key, Seen::default())).collect();
        look_at_source(sides, &mut now, |key| before.contains_key(&key)).await?;
        if !caught_up(sides, reader).await? {
            break;
        }
        sides.anew(stored().await?).await?;
        look_at_lake(sides, &mut now, |key| before.contains_key(&key)).await?;
        now.retain(|key, seen| {
            // The lake must have been seen, caught up, between two sights of the source: else a row that came and went is missing.
            let stays = look > 0 && before.get(key) == Some(seen);
            if stays && seen.source != seen.lake {
                verdict.count(seen);
            }
            !stays && seen.source != seen.lake
        });
        before = now;
    }
    Ok(before)
}

/// Waits until the lake has everything that the source had committed when this began; `false` when that takes too long.
async fn caught_up(sides: &Sides<'_>, reader: &Reread) -> Result<bool> {
    let through = reader.end_of_log(&sides.plan().low).await?;
    let waiting = async {
        while !reader.has_confirmed(&through).await? {
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    };
    match tokio::time::timeout(CATCH_UP, waiting).await {
        Ok(confirmed) => confirmed.map(|()| true),
        Err(_) => Ok(false),
    }
}

async fn look_at_source(sides: &Sides<'_>, looked: &mut Looked, wanted: impl Fn(u128) -> bool) -> Result<()> {
    sides
        .source(async |_, prints| {
            for print in prints.iter().filter(|print| wanted(print.key)) {
                looked.entry(print.key).or_default().source.add(print.row);
            }
            Ok(())
        })
        .await
}

async fn look_at_lake(sides: &Sides<'_>, looked: &mut Looked, wanted: impl Fn(u128) -> bool) -> Result<()> {
    sides
        .lake(async |rows, prints| {
            let places = sides.places(&rows)?;
            for (print, place) in prints.iter().zip(places).filter(|(print, _)| wanted(print.key)) {
                let seen = looked.entry(print.key).or_default();
                seen.lake.add(print.row);
                seen.place = seen.place.wrapping_add(place);
            }
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: &[u128], lake: &[u128]) -> Seen {
        let mut seen = Seen::default();
        source.iter().for_each(|row| seen.source.add(*row));
        lake.iter().for_each(|row| seen.lake.add(*row));
        seen
    }

    #[test]
    fn each_kind_of_difference_is_counted_as_what_it_is() {
        let mut verdict = Verdict::default();
        for seen in [seen(&[1], &[]), seen(&[], &[2]), seen(&[3], &[4]), seen(&[5], &[5]), seen(&[6, 6, 6], &[6])] {
            verdict.count(&seen);
        }
        assert_eq!((verdict.missing, verdict.surplus, verdict.different), (1 + 2, 1, 1));
        assert!(!verdict.is_equal());
    }
}
