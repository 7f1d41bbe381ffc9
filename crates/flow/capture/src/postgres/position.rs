use std::fmt;

use change::{Error, Kind, Position, Result};
use pgwire_replication::Lsn;

/// A point in a Postgres stream: 20 bytes, big-endian, so that byte order is stream order.
///
/// A streamed row lies at its transaction's commit LSN with its number in the transaction, from 1. A boundary lies at the *end* of a commit
/// record with ordinal 0: rows of earlier transactions sort below it, rows of later ones above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PgPosition {
    /// Rises with a repair, after which LSNs of another history may follow. Over a promotion that goes on from our position it stays: LSNs go
    /// on rising, and what the new server sends again keeps its place.
    pub(crate) epoch: u32,
    pub(crate) lsn: Lsn,
    pub(crate) ordinal: u64,
}

impl PgPosition {
    pub(crate) fn boundary(epoch: u32, lsn: Lsn) -> Self {
        Self { epoch, lsn, ordinal: 0 }
    }

    pub(crate) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.lsn.as_u64().to_be_bytes());
        bytes[12..].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    pub(crate) fn position(self) -> Position {
        Position::from_bytes(&self.to_bytes())
    }

    /// Reads what [`PgPosition::position`] wrote; [`Kind::SourceGone`] for a position that another connector laid out.
    pub(crate) fn parse(position: &Position) -> Result<Self> {
        let read = |bytes: &[u8]| bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        match position.as_bytes() {
            bytes if bytes.len() == 20 => Ok(Self {
                epoch: read(&bytes[..4]) as u32,
                lsn: Lsn::from_u64(read(&bytes[4..12])),
                ordinal: read(&bytes[12..]),
            }),
            _ => Err(Error::new(Kind::SourceGone, "a checkpoint in the lake was not written by a Postgres source")
                .fix("Give this source another name in lockgate.yaml, or point it at the database it had before.")),
        }
    }
}

impl fmt::Display for PgPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {})", self.lsn, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_lies_between_the_transactions_beside_it() {
        let row = |lsn, ordinal| PgPosition { epoch: 0, lsn: Lsn::from_u64(lsn), ordinal }.position();
        // The transaction that ends at 0x200 committed at 0x100; the next one cannot commit below 0x200.
        let boundary = PgPosition::boundary(0, Lsn::from_u64(0x200)).position();
        assert!(row(0x100, u64::MAX) < boundary);
        assert!(boundary < row(0x200, 1));
        assert!(row(u64::MAX, 9) < PgPosition::boundary(1, Lsn::ZERO).position());
    }

    #[test]
    fn reads_back_and_refuses_other_layouts() {
        let position = PgPosition { epoch: 3, lsn: Lsn::from_u64(0x16_b374_d848), ordinal: 7 };
        assert_eq!(PgPosition::parse(&position.position()).unwrap(), position);
        assert_eq!(PgPosition::parse(&Position::from_bytes(b"x")).unwrap_err().kind(), Kind::SourceGone);
    }
}
