//! The messages of `pgoutput`, protocol versions 1 and 2, read in place.
//!
//! Format: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>. Anything that does not follow it is an
//! error of [`Kind::Data`], whatever the bytes are; nothing is allocated on the word of a length field.

use change::{Error, Kind, Result, Timestamp};

use super::table::ReplicaIdentity;

/// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since the Unix epoch.
pub(crate) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One message of the stream.
///
/// `xid` in the messages of a row, a relation, a type, a truncate or a logical message is the (sub)transaction that made it; it is only
/// there inside a streamed block of protocol 2, else the transaction is that of the last [`Message::Begin`].
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// A transaction begins; it is committed.
    Begin {
        /// The LSN of its commit record.
        final_lsn: u64,
        /// When it was committed, microseconds since the Unix epoch.
        committed_at: Timestamp,
        /// Its number.
        xid: u32,
    },
    /// The transaction of the last [`Message::Begin`] is complete.
    Commit {
        /// The LSN of the commit record.
        commit_lsn: u64,
        /// The LSN behind it.
        end_lsn: u64,
        /// When, microseconds since the Unix epoch.
        committed_at: Timestamp,
    },
    /// The transaction came from another server.
    Origin {
        /// The LSN of the commit there.
        lsn: u64,
        /// The origin's name.
        name: &'a str,
    },
    /// The structure of a table, before its first row and after each change of it.
    Relation(Relation),
    /// The name of a type that is not built in.
    Type {
        /// Its oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A row was inserted.
    Insert {
        /// See [`Message`].
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// See [`Message`].
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// What was sent of the old row; nothing when its key did not change and the replica identity is not full.
        old: Option<OldTuple<'a>>,
        /// The new row.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// See [`Message`].
        xid: Option<u32>,
        /// The table's oid.
        relation: u32,
        /// What was sent of it.
        old: OldTuple<'a>,
    },
    /// Tables were truncated.
    Truncate {
        /// See [`Message`].
        xid: Option<u32>,
        /// The oids of the tables.
        relations: Vec<u32>,
    },
    /// A message of `pg_logical_emit_message`. Its content is the application's and is not read.
    Logical {
        /// See [`Message`].
        xid: Option<u32>,
        /// Whether it belongs to a transaction.
        transactional: bool,
        /// Its LSN.
        lsn: u64,
        /// Its prefix.
        prefix: &'a str,
    },
    /// A block of a transaction that is still open begins.
    StreamStart {
        /// The transaction.
        xid: u32,
        /// Whether it is the transaction's first block.
        first: bool,
    },
    /// The block ends.
    StreamStop,
    /// A transaction whose blocks were sent is committed.
    StreamCommit {
        /// The transaction.
        xid: u32,
        /// The LSN of the commit record.
        commit_lsn: u64,
        /// The LSN behind it.
        end_lsn: u64,
        /// When, microseconds since the Unix epoch.
        committed_at: Timestamp,
    },
    /// A transaction whose blocks were sent, or a part of it, is rolled back.
    StreamAbort {
        /// The transaction.
        xid: u32,
        /// The part: equal to `xid` when it is all of it.
        subxid: u32,
    },
}

/// The structure of a table as the stream announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// See [`Message`].
    pub xid: Option<u32>,
    /// `pg_class.oid`; of the root for a partition that is published via its root.
    pub oid: u32,
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
    /// What is sent of old rows.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order in which tuples carry them.
    pub columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it belongs to the replica identity; true of every column when that is full.
    pub key: bool,
    /// The name.
    pub name: String,
    /// The type.
    pub type_oid: u32,
    /// The type's modifier, or -1.
    pub typmod: i32,
}

/// What was sent of an old row.
#[derive(Clone, Copy)]
pub enum OldTuple<'a> {
    /// The columns of the replica identity; the others are null.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The cells.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => *tuple,
        }
    }
}

/// The cells of a row. They are raw: there is no `Debug` of them.
#[derive(Clone, Copy)]
pub struct Tuple<'a> {
    columns: u16,
    /// Exactly the cells, checked when the message was parsed.
    bytes: &'a [u8],
}

impl std::fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tuple").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OldTuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Key(_)) { "Key" } else { "Full" })
    }
}

/// One cell of a row, raw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Null.
    Null,
    /// Unchanged TOAST: the value is what it was before.
    Unchanged,
    /// The value as the type's output function prints it.
    Text(&'a [u8]),
    /// The value as the type's send function sends it.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// The number of cells.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The length of the cells in the message, which bounds the memory that they need.
    pub(crate) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The cells, in the order of the relation's columns.
    #[inline]
    pub fn cells(&self) -> Cells<'a> {
        Cells { rest: self.bytes }
    }
}

/// Iterates over the cells of a [`Tuple`].
pub struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        // The tuple was walked when it was parsed, so `None` is its end and never a short cell.
        let (cell, rest) = split_cell(self.rest)?;
        self.rest = rest;
        Some(cell)
    }
}

#[inline]
fn split_cell(bytes: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    let (format, rest) = bytes.split_first()?;
    match format {
        b'n' => Some((Cell::Null, rest)),
        b'u' => Some((Cell::Unchanged, rest)),
        b't' | b'b' => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
            Some((if *format == b't' { Cell::Text(value) } else { Cell::Binary(value) }, rest))
        }
        _ => None,
    }
}

/// Reads one message. `in_streamed_block` is true between [`Message::StreamStart`] and [`Message::StreamStop`], where messages carry
/// their transaction.
pub fn parse(bytes: &[u8], in_streamed_block: bool) -> Result<Message<'_>> {
    let mut reader = Reader { rest: bytes, kind: 0 };
    let kind = reader.byte()?;
    reader.kind = kind;
    let xid = if in_streamed_block && matches!(kind, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') {
        Some(reader.u32()?)
    } else {
        None
    };
    let message = match kind {
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            Message::Insert { xid, relation, new: reader.tuple()? }
        }
        b'U' => reader.update(xid)?,
        b'D' => {
            let relation = reader.u32()?;
            let which = reader.byte()?;
            Message::Delete { xid, relation, old: reader.old_tuple(which)? }
        }
        b'B' => Message::Begin { final_lsn: reader.u64()?, committed_at: reader.timestamp()?, xid: reader.u32()? },
        b'C' => {
            reader.byte()?;
            Message::Commit { commit_lsn: reader.u64()?, end_lsn: reader.u64()?, committed_at: reader.timestamp()? }
        }
        b'R' => Message::Relation(reader.relation(xid)?),
        b'Y' => Message::Type { oid: reader.u32()?, schema: reader.text()?, name: reader.text()? },
        b'T' => reader.truncate(xid)?,
        b'O' => Message::Origin { lsn: reader.u64()?, name: reader.text()? },
        b'M' => {
            let message = Message::Logical {
                xid,
                transactional: reader.byte()? & 1 != 0,
                lsn: reader.u64()?,
                prefix: reader.text()?,
            };
            let length = reader.u32()?;
            reader.take(length)?;
            message
        }
        b'S' => Message::StreamStart { xid: reader.u32()?, first: reader.byte()? != 0 },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = reader.u32()?;
            reader.byte()?;
            Message::StreamCommit {
                xid,
                commit_lsn: reader.u64()?,
                end_lsn: reader.u64()?,
                committed_at: reader.timestamp()?,
            }
        }
        b'A' => Message::StreamAbort { xid: reader.u32()?, subxid: reader.u32()? },
        _ => return Err(reader.malformed("it is of an unknown kind")),
    };
    if !reader.rest.is_empty() {
        return Err(reader.malformed("bytes are left over at its end"));
    }
    Ok(message)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The message's letter, for errors.
    kind: u8,
}

impl<'a> Reader<'a> {
    #[cold]
    fn malformed(&self, what: &str) -> Error {
        let kind = char::from(self.kind).escape_default();
        Error::new(Kind::Data, format!("a pgoutput message of kind '{kind}' cannot be read: {what}"))
            .fix("Check that the stream is asked for with proto_version 1 or 2; report it if it is.")
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((chunk, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed("it is cut short"));
        };
        self.rest = rest;
        Ok(*chunk)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8]> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((taken, rest)) = split else {
            return Err(self.malformed("it is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        let since_2000 = i64::from_be_bytes(self.chunk()?);
        since_2000.checked_add(POSTGRES_EPOCH_US).ok_or_else(|| self.malformed("its time is out of range"))
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.byte()? == wanted { Ok(()) } else { Err(self.malformed("it holds no new row where one must be")) }
    }

    fn text(&mut self) -> Result<&'a str> {
        let Some(end) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.malformed("a name in it has no end"));
        };
        let (name, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        std::str::from_utf8(name).map_err(|_| self.malformed("a name in it is not UTF-8"))
    }

    #[inline]
    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let columns = self.u16()?;
        let start = self.rest;
        for _ in 0..columns {
            let Some((_, rest)) = split_cell(self.rest) else {
                return Err(self.malformed("a cell in it is cut short or of an unknown kind"));
            };
            self.rest = rest;
        }
        Ok(Tuple { columns, bytes: &start[..start.len() - self.rest.len()] })
    }

    fn old_tuple(&mut self, which: u8) -> Result<OldTuple<'a>> {
        match which {
            b'K' => self.tuple().map(OldTuple::Key),
            b'O' => self.tuple().map(OldTuple::Full),
            _ => Err(self.malformed("it holds no old row where one must be")),
        }
    }

    fn update(&mut self, xid: Option<u32>) -> Result<Message<'a>> {
        let relation = self.u32()?;
        let old = match self.byte()? {
            b'N' => None,
            which => {
                let old = self.old_tuple(which)?;
                self.expect(b'N')?;
                Some(old)
            }
        };
        Ok(Message::Update { xid, relation, old, new: self.tuple()? })
    }

    fn truncate(&mut self, xid: Option<u32>) -> Result<Message<'a>> {
        let count = self.u32()?;
        self.byte()?;
        let mut relations = Vec::new();
        for _ in 0..count {
            relations.push(self.u32()?);
        }
        Ok(Message::Truncate { xid, relations })
    }

    fn relation(&mut self, xid: Option<u32>) -> Result<Relation> {
        let oid = self.u32()?;
        // An empty schema name stands for pg_catalog.
        let schema = match self.text()? {
            "" => "pg_catalog",
            schema => schema,
        };
        let schema = schema.to_owned();
        let name = self.text()?.to_owned();
        let letter = self.byte()?;
        let replica_identity =
            ReplicaIdentity::from_letter(letter).ok_or_else(|| self.malformed("its replica identity is unknown"))?;
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(RelationColumn {
                key: self.byte()? & 1 != 0,
                name: self.text()?.to_owned(),
                type_oid: self.u32()?,
                typmod: i32::from_be_bytes(self.chunk()?),
            });
        }
        Ok(Relation { xid, oid, schema, name, replica_identity, columns })
    }
}
