//! Deletion vectors: which rows of a file are gone (Delta protocol, "Deletion Vector Format").

use std::io::Cursor;

use bytes::Bytes;
use change::{Error, Kind, Result};
use deltalake::kernel::{Add, DeletionVectorDescriptor, StorageType};
use deltalake::logstore::LogStoreRef;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::encode::loosened;
use crate::failure::Explain;

const MAGIC: u32 = 1_681_511_377;
const FORMAT: u8 = 1;

/// A data file whose rows in this vector are deleted. Its statistics may be those of such rows, and say so.
pub(crate) fn under(add: Add, vector: Option<DeletionVectorDescriptor>) -> Add {
    let stats = match &vector {
        Some(_) => add.stats.as_deref().map(loosened),
        None => add.stats,
    };
    Add { deletion_vector: vector, stats, ..add }
}

/// Many vectors in one file.
pub(crate) struct VectorFile {
    id: Uuid,
    bytes: Vec<u8>,
}

impl VectorFile {
    pub(crate) fn new() -> Self {
        Self { id: Uuid::new_v4(), bytes: vec![FORMAT] }
    }

    /// Appends a vector; the descriptor points into the file that [`VectorFile::write`] makes.
    pub(crate) fn push(&mut self, rows: &RoaringTreemap) -> Result<DeletionVectorDescriptor> {
        let doing = || "cannot encode a deletion vector".to_owned();
        let mut data = MAGIC.to_le_bytes().to_vec();
        rows.serialize_into(&mut data).explain(doing)?;
        let size = i32::try_from(data.len()).explain(doing)?;
        let offset = i32::try_from(self.bytes.len()).explain(doing)?;
        self.bytes.extend(size.to_be_bytes());
        self.bytes.extend(&data);
        self.bytes.extend(crc32fast::hash(&data).to_be_bytes());
        Ok(DeletionVectorDescriptor {
            storage_type: StorageType::UuidRelativePath,
            path_or_inline_dv: z85::encode(self.id.as_bytes()),
            offset: Some(offset),
            size_in_bytes: size,
            cardinality: i64::try_from(rows.len()).explain(doing)?,
        })
    }

    /// Writes the file at the table's root; does nothing when there is no vector.
    pub(crate) async fn write(self, store: &LogStoreRef) -> Result<()> {
        if self.bytes.len() == 1 {
            return Ok(());
        }
        let path = Path::from(format!("deletion_vector_{}.bin", self.id));
        let put = store.object_store(None).put(&path, Bytes::from(self.bytes).into()).await;
        put.map(|_| ()).explain(|| format!("cannot write {path}"))
    }
}

/// Reads a vector back and checks it.
pub(crate) async fn read(store: &LogStoreRef, descriptor: &DeletionVectorDescriptor) -> Result<RoaringTreemap> {
    let broken = |what: &str| {
        Error::new(Kind::Data, format!("a deletion vector is damaged: {what}"))
            .fix("Restore the table to an earlier version, or remove its folder so that it is copied anew.")
    };
    if descriptor.storage_type != StorageType::UuidRelativePath {
        return Err(Error::new(
            Kind::Conflict,
            "a deletion vector was written by something else in a form that we do not read",
        )
        .fix("Let only Lockgate delete rows in this table."));
    }
    let encoded = &descriptor.path_or_inline_dv;
    let (prefix, id) = encoded.split_at_checked(encoded.len().saturating_sub(20)).ok_or_else(|| broken("its name"))?;
    let id = z85::decode(id).ok().and_then(|id| Uuid::from_slice(&id).ok()).ok_or_else(|| broken("its name"))?;
    let name = format!("deletion_vector_{id}.bin");
    let path = if prefix.is_empty() { Path::from(name) } else { Path::from(format!("{prefix}/{name}")) };
    let start = u64::try_from(descriptor.offset.unwrap_or(1)).map_err(|_| broken("its place"))?;
    let size = u64::try_from(descriptor.size_in_bytes).map_err(|_| broken("its size"))?;
    let bytes = store
        .object_store(None)
        .get_range(&path, start..start + size + 8)
        .await
        .explain(|| format!("cannot read {path}"))?;
    let (head, rest) = bytes.split_at_checked(4).ok_or_else(|| broken("its length"))?;
    let (data, sum) = rest.split_at_checked(size as usize).ok_or_else(|| broken("its length"))?;
    if head != descriptor.size_in_bytes.to_be_bytes() || sum != crc32fast::hash(data).to_be_bytes() {
        return Err(broken("its checksum"));
    }
    let (magic, map) = data.split_at_checked(4).ok_or_else(|| broken("its length"))?;
    if magic != MAGIC.to_le_bytes() {
        return Err(broken("its format"));
    }
    RoaringTreemap::deserialize_from(Cursor::new(map)).map_err(|_| broken("its rows"))
}

/// The path of the file that a vector lies in; `None` when it is not a file of the table.
pub(crate) fn path(descriptor: &DeletionVectorDescriptor) -> Option<String> {
    let encoded = &descriptor.path_or_inline_dv;
    let (prefix, id) = encoded.split_at_checked(encoded.len().checked_sub(20)?)?;
    let id = Uuid::from_slice(&z85::decode(id).ok()?).ok()?;
    let name = format!("deletion_vector_{id}.bin");
    Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}
