//! The stream of a `COPY ... TO STDOUT (FORMAT binary)`.
//!
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>.

use change::{Error, Kind, Position, Result, Timestamp};

use super::rows::TableDecoder;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The signature, the flags and the length of the header's extension.
const HEADER_BYTES: usize = 19;
/// Flags that a reader must know.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Reads one copy, frame by frame, into a [`TableDecoder`]. A frame may end anywhere.
pub struct CopyReader {
    low: Position,
    read_at: Timestamp,
    state: State,
    /// The begin of a row whose end has not come yet.
    pending: Vec<u8>,
    rows: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// What was found at the front of some bytes.
enum Front {
    /// Too little to tell.
    Short,
    /// Something of this many bytes that is no row.
    Skipped(usize),
    /// A row of this many bytes.
    Row(usize),
}

impl CopyReader {
    /// `low` is the position of every copied row and `read_at` stands for its commit time, in microseconds since the Unix epoch.
    pub fn new(low: Position, read_at: Timestamp) -> Self {
        Self { low, read_at, state: State::Header, pending: Vec::new(), rows: 0 }
    }

    /// The rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends the rows that end in `frame`. The caller takes batches from `decoder` between frames.
    pub fn push(&mut self, frame: &[u8], decoder: &mut TableDecoder) -> Result<()> {
        if self.pending.is_empty() {
            let used = self.read(frame, decoder)?;
            self.pending.extend_from_slice(&frame[used..]);
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(frame);
        let used = self.read(&pending, decoder)?;
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    /// Checks that the copy came to its end, and gives the number of its rows.
    pub fn end(self, decoder: &TableDecoder) -> Result<u64> {
        if self.state == State::Ended { Ok(self.rows) } else { Err(malformed(decoder, "it ended before its trailer")) }
    }

    /// Reads what is whole and gives the number of bytes used.
    fn read(&mut self, bytes: &[u8], decoder: &mut TableDecoder) -> Result<usize> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let front = match self.state {
                State::Header => header(rest, decoder)?,
                State::Rows => front(rest, decoder)?,
                State::Ended => return Err(malformed(decoder, "bytes follow its trailer")),
            };
            match front {
                Front::Short => break,
                Front::Skipped(length) => {
                    self.state = if self.state == State::Header { State::Rows } else { State::Ended };
                    used += length;
                }
                Front::Row(length) => {
                    decoder.copy(
                        Fields { rest: &rest[2..length] },
                        self.low.as_bytes(),
                        self.read_at,
                        self.rows + 1,
                    )?;
                    self.rows += 1;
                    used += length;
                }
            }
        }
        Ok(used)
    }
}

fn header(bytes: &[u8], decoder: &TableDecoder) -> Result<Front> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(malformed(decoder, "its signature is missing"));
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Front::Short);
    };
    let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if field(11) & CRITICAL_FLAGS != 0 {
        return Err(malformed(decoder, "it has a flag that is unknown"));
    }
    match usize::try_from(field(15)) {
        Ok(extension) if extension <= rest.len() => Ok(Front::Skipped(HEADER_BYTES + extension)),
        _ => Ok(Front::Short),
    }
}

/// Measures the row or the trailer at the front without reading it, so that a row is only ever decoded whole.
fn front(bytes: &[u8], decoder: &TableDecoder) -> Result<Front> {
    let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else {
        return Ok(Front::Short);
    };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Front::Skipped(2));
    }
    let columns = decoder.schema().columns.len();
    if usize::try_from(count) != Ok(columns) {
        return Err(malformed(decoder, "a row has another number of columns than the table"));
    }
    for _ in 0..columns {
        let Some((length, behind)) = rest.split_first_chunk::<4>() else {
            return Ok(Front::Short);
        };
        rest = match i32::from_be_bytes(*length) {
            -1 => behind,
            length => {
                let length =
                    usize::try_from(length).map_err(|_| malformed(decoder, "a value has a negative length"))?;
                match behind.get(length..) {
                    Some(behind) => behind,
                    None => return Ok(Front::Short),
                }
            }
        };
    }
    Ok(Front::Row(bytes.len() - rest.len()))
}

/// The fields of a row that [`front`] has measured.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (length, behind) = self.rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = behind;
            return Some(None);
        };
        let (value, rest) = behind.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(value))
    }
}

#[cold]
fn malformed(decoder: &TableDecoder, what: &str) -> Error {
    Error::new(Kind::Data, format!("{}: the binary copy cannot be read: {what}", decoder.schema().table))
}
