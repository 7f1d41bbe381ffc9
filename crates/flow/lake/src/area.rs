//! Rows that wait for a commit: in memory first, then in data files that nobody sees yet.

use std::collections::HashMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use change::{Error, Kind, Result, Timestamp};
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::encode::{Encoded, Statistics, encode};
use crate::failure::Explain;
use crate::held_bytes::HeldBytes;
use crate::index::{KeyHash, ScratchMap};
use crate::offload;
use crate::reidentify::Parted;

/// Where the last image of a key lies among the rows that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The row is gone.
    Removed,
    /// In a batch in memory.
    Held { batch: u32, row: u32 },
    /// In a staged file.
    Staged { file: u32, row: u32 },
}

const STAGED: u64 = 1 << 63;
const HELD: u64 = 1 << 62;
const REMOVED: u64 = 1 << 61;

impl Seat {
    pub(crate) fn pack(self) -> u64 {
        match self {
            Self::Removed => REMOVED,
            Self::Held { batch, row } => HELD | u64::from(batch) << 32 | u64::from(row),
            Self::Staged { file, row } => STAGED | u64::from(file) << 32 | u64::from(row),
        }
    }

    pub(crate) fn unpack(bits: u64) -> Self {
        let (high, row) = ((bits >> 32) as u32 & 0x1fff_ffff, bits as u32);
        match bits {
            bits if bits & STAGED != 0 => Self::Staged { file: high, row },
            bits if bits & HELD != 0 => Self::Held { batch: high, row },
            _ => Self::Removed,
        }
    }
}

/// A batch in memory, of the table's structure.
pub(crate) struct Held {
    pub(crate) rows: RecordBatch,
    pub(crate) keys: Vec<KeyHash>,
    pub(crate) fates: Vec<Fate>,
}

/// What becomes of a row in memory when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is a row of the table.
    Live,
    /// A delete: it is written and marked deleted, so that the table itself tells, while the first copy is unfinished, which keys must
    /// not come back.
    Grave,
    /// A later one has replaced it, or it is a delete that nobody has to remember.
    Gone,
}

impl Held {
    fn written(&self) -> impl Iterator<Item = (&KeyHash, Fate)> {
        self.keys.iter().zip(self.fates.iter().copied()).filter(|(_, fate)| *fate != Fate::Gone)
    }

    fn written_rows(&self) -> Result<RecordBatch> {
        if !self.fates.contains(&Fate::Gone) {
            return Ok(self.rows.clone());
        }
        let written: BooleanArray = self.fates.iter().map(|fate| Some(*fate != Fate::Gone)).collect();
        filter_record_batch(&self.rows, &written).explain(|| "cannot select rows".into())
    }
}

/// A data file that is not part of the table yet.
pub(crate) struct Staged {
    pub(crate) add: Add,
    pub(crate) rows: u64,
    /// Rows that later ones have replaced.
    pub(crate) gone: RoaringTreemap,
    /// The keys of its rows; kept for copied rows only, whose commit looks each of them up.
    pub(crate) keys: Vec<KeyHash>,
}

/// What becomes of keys in this commit.
pub(crate) enum Seats {
    /// One row for a key at most.
    Unique(ScratchMap),
    /// Rows form a multiset: places of added rows, and how many older rows are taken away, beside those that are put aside.
    Multi { added: HashMap<KeyHash, Vec<Seat>>, taken: HashMap<KeyHash, u64>, parted: Parted },
    /// Rows are only added.
    Append,
}

/// Everything streamed that one commit will make visible.
pub(crate) struct Area {
    pub(crate) held: Vec<Held>,
    bytes: HeldBytes,
    pub(crate) staged: Vec<Staged>,
    pub(crate) seats: Seats,
    /// All rows of the table are gone before these.
    pub(crate) truncated: bool,
    /// Changes that were taken in.
    pub(crate) changes: u64,
    /// The newest commit time of the source among them.
    pub(crate) newest: Option<Timestamp>,
    /// The disk of the seats failed while rows went from memory into a file: seats name rows that are not there any more.
    pub(crate) torn: bool,
}

impl Area {
    pub(crate) fn new(seats: Seats, bytes: HeldBytes) -> Self {
        let (held, staged) = (Vec::new(), Vec::new());
        Self { held, bytes, staged, seats, truncated: false, changes: 0, newest: None, torn: false }
    }

    /// Lets go of all rows, and of what told where they lie; the count for another area of the table.
    pub(crate) fn empty(&mut self) -> HeldBytes {
        let bytes = self.bytes.fresh();
        *self = Self::new(Seats::Append, bytes.fresh());
        bytes
    }

    /// Takes in a batch; its seats are the caller's work.
    pub(crate) fn hold(&mut self, held: Held) {
        self.bytes.add(held.rows.get_array_memory_size() + held.keys.len() * 17);
        self.held.push(held);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.are_too_many()
    }

    /// A row was replaced or removed by a later one of the same commit.
    pub(crate) fn kill(&mut self, seat: Seat) {
        match seat {
            Seat::Removed => {}
            Seat::Held { batch, row } => self.held[batch as usize].fates[row as usize] = Fate::Gone,
            Seat::Staged { file, row } => drop(self.staged[file as usize].gone.insert(u64::from(row))),
        }
    }

    /// Writes the live rows in memory to a data file. They stay in memory until the store has the file, so that a failed write may be
    /// tried again; an area that is torn may not.
    pub(crate) async fn flush(
        &mut self,
        store: &LogStoreRef,
        schema: &SchemaRef,
        statistics: &Statistics,
        now_ms: i64,
    ) -> Result<()> {
        if self.torn {
            return Err(torn());
        }
        let written = self.held.iter().map(Held::written_rows).collect::<Result<Vec<_>>>()?;
        let written: Vec<RecordBatch> = written.into_iter().filter(|rows| rows.num_rows() > 0).collect();
        let rows: usize = written.iter().map(RecordBatch::num_rows).sum();
        let add = match rows {
            0 => None,
            _ => Some(write(store, "", HashMap::new(), schema, written, statistics, now_ms).await?),
        };
        self.bytes.clear();
        let held = std::mem::take(&mut self.held);
        let Some(add) = add else { return Ok(()) };
        self.torn = true;
        let file = self.staged.len() as u32;
        let (mut gone, mut row) = (RoaringTreemap::new(), 0_u32);
        for batch in held {
            let mut seats = Vec::with_capacity(batch.keys.len());
            for (key, fate) in batch.written() {
                if fate == Fate::Grave {
                    gone.insert(u64::from(row));
                } else {
                    seats.push((*key, Seat::Staged { file, row }));
                }
                row += 1;
            }
            self.reseat(&seats)?;
        }
        self.staged.push(Staged { add, rows: rows as u64, gone, keys: Vec::new() });
        self.torn = false;
        Ok(())
    }

    fn reseat(&mut self, seats: &[(KeyHash, Seat)]) -> Result<()> {
        match &mut self.seats {
            Seats::Unique(map) => {
                map.set(&seats.iter().map(|(key, seat)| (*key, Some(seat.pack()))).collect::<Vec<_>>())
            }
            Seats::Multi { added, .. } => {
                for (key, seat) in seats {
                    // The rows of one key are moved in the order in which they came: staged ones first, then those still held.
                    let Some(places) = added.get_mut(key) else { continue };
                    let next = places.partition_point(|place| matches!(place, Seat::Staged { .. }));
                    if let Some(place) = places.get_mut(next) {
                        *place = *seat;
                    }
                }
                Ok(())
            }
            Seats::Append => Ok(()),
        }
    }
}

/// That the rows of an area that is torn cannot be committed.
pub(crate) fn torn() -> Error {
    Error::new(Kind::Unavailable, "the local disk failed while it was noted where rows lie that wait for their commit")
        .fix("Nothing to do: the table is opened again. Look at the disk's state if it happens again.")
}

/// The name of a new data file below `folder`.
pub(crate) fn data_file(folder: &str) -> String {
    format!("{folder}part-{}.zstd.parquet", Uuid::new_v4())
}

/// Encodes rows and puts them into a new data file below `folder`.
pub(crate) async fn write(
    store: &LogStoreRef,
    folder: &str,
    partition: HashMap<String, Option<String>>,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
    statistics: &Statistics,
    now_ms: i64,
) -> Result<Add> {
    let (schema, statistics) = (schema.clone(), statistics.clone());
    let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let encoded = offload::encode(bytes, move || encode(&schema, &batches, &statistics)).await;
    let encoded = encoded.explain(|| "the encoder of data files ended".into())??;
    put(store, folder, partition, encoded, now_ms).await
}

/// Puts an encoded file below `folder`.
pub(crate) async fn put(
    store: &LogStoreRef,
    folder: &str,
    partition: HashMap<String, Option<String>>,
    Encoded { bytes, stats }: Encoded,
    now_ms: i64,
) -> Result<Add> {
    let name = data_file(folder);
    let size = bytes.len() as i64;
    let path = Path::from(name.as_str());
    store.object_store(None).put(&path, bytes.into()).await.explain(|| format!("cannot write the data file {name}"))?;
    Ok(Add {
        path: name,
        partition_values: partition,
        size,
        modification_time: now_ms,
        data_change: true,
        stats: Some(stats),
        ..Add::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use object_store::memory::InMemory;

    use super::*;
    use crate::index::KeySeed;
    use crate::lake::Lake;

    #[tokio::test]
    async fn rows_whose_seats_the_disk_did_not_take_are_not_committed_by_a_second_try() {
        let lake = Lake::in_store(Arc::new(InMemory::new())).unwrap();
        let scratch = std::env::temp_dir().join(format!("lockgate-area-{}", std::process::id()));
        let bytes = HeldBytes::new(Arc::default());
        let mut area = Area::new(Seats::Unique(ScratchMap::create(&scratch, 1).unwrap()), bytes);
        let column: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let (schema, keys) = (rows.schema(), (0..3).map(|id| KeySeed::new(1).hash(&[id])).collect());
        area.hold(Held { rows, keys, fates: vec![Fate::Live; 3] });
        std::fs::remove_dir_all(&scratch).unwrap();
        for _ in 0..2 {
            let flushed = area.flush(lake.root(), &schema, &Statistics::default(), 0).await;
            assert_eq!(flushed.unwrap_err().kind(), Kind::Unavailable);
        }
    }

    #[test]
    fn seats_fit_into_64_bits() {
        for seat in [Seat::Removed, Seat::Held { batch: 7, row: u32::MAX }, Seat::Staged { file: 0x1fff_ffff, row: 0 }]
        {
            assert_eq!(Seat::unpack(seat.pack()), seat);
        }
    }
}
