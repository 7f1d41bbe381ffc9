//! Several data files become one. Rows are read, encoded and forgotten batch by batch: what is held in memory is the new file's bytes, a row
//! group, two batches, and for each row what the key index needs.

use std::collections::HashMap;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use change::Result;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use crate::area;
use crate::deleted;
use crate::encode::{Encoder, Statistics, fit};
use crate::failure::Explain;
use crate::identity::Identifier;
use crate::index::KeyHash;
use crate::press::Press;
use crate::rows;

/// The file that replaces others.
#[derive(Default)]
pub(crate) struct Joined {
    /// `None` when no live row was left.
    pub(crate) add: Option<Add>,
    /// For each of its rows, when an identifier was given: its identity, which of the old files it was in (by index), and its row there.
    pub(crate) rows: Vec<(KeyHash, u32, u32)>,
}

/// What the new file is.
pub(crate) struct Target<'a> {
    pub(crate) folder: &'a str,
    pub(crate) partition: HashMap<String, Option<String>>,
    pub(crate) schema: SchemaRef,
    pub(crate) statistics: Statistics,
    /// Rows that are left out though they are live, by file.
    pub(crate) without: HashMap<String, RoaringTreemap>,
}

/// Writes the live rows of `old`, in order, into one new file that no commit names yet.
pub(crate) async fn join(
    store: &LogStoreRef,
    old: &[Add],
    target: Target<'_>,
    identifier: Option<&Identifier>,
    now_ms: i64,
) -> Result<Joined> {
    let Target { folder, partition, schema, statistics, without } = target;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut press = Press::new(Encoder::new(schema.clone(), statistics));
    let mut joined = Joined::default();
    for (file, add) in (0_u32..).zip(old) {
        let mut gone = match &add.deletion_vector {
            Some(descriptor) => deleted::read(store, descriptor).await?,
            None => RoaringTreemap::new(),
        };
        if let Some(more) = without.get(&add.path) {
            gone |= more;
        }
        let mut stream = rows::read(store, &add.path, &names, None).await?;
        let mut first = 0_u32;
        while let Some(batch) = stream.try_next().await? {
            let live = |row: &u32| !gone.contains(u64::from(*row));
            let all = first..first + batch.num_rows() as u32;
            first = all.end;
            let mask: BooleanArray = all.clone().map(|row| Some(live(&row))).collect();
            let kept = filter_record_batch(&batch, &mask).explain(|| "cannot select rows".into())?;
            let kept = fit(&schema, &kept)?;
            if let Some(identifier) = identifier {
                let keys = identifier.hashes(&kept)?;
                joined.rows.extend(keys.into_iter().zip(all.filter(live)).map(|(key, row)| (key, file, row)));
            }
            press = press.push(kept).await?;
        }
    }
    if let Some(file) = press.finish().await? {
        joined.add = Some(Add { data_change: false, ..area::put(store, folder, partition, file, now_ms).await? });
    }
    Ok(joined)
}
