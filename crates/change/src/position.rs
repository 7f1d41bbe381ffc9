use std::fmt;

use serde::{Deserialize, Serialize};

/// A point in one stream: bytes whose lexicographic (memcmp) order is the source's order.
///
/// Every connector lays its bytes out itself; the first field is an epoch that rises only when the continuity of
/// the stream was proven. Positions of two streams are never compared. A position carries no row value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(Box<[u8]>);

impl Position {
    /// Wraps bytes that a connector has laid out.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, in the order of the stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lower-case hexadecimal, as it is stored in commit metadata.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Position::to_hex`] wrote; `None` for anything else.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
            return None;
        }
        (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok())
            .collect::<Option<Vec<u8>>>()
            .map(|bytes| Self(bytes.into()))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.to_hex())
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        Self::from_hex(&hex)
            .ok_or_else(|| serde::de::Error::custom("a position is an even number of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_stream_order() {
        let low = Position::from_bytes(&[0, 0, 0, 1, 0xff]);
        let high = Position::from_bytes(&[0, 0, 0, 2, 0x00]);
        assert!(low < high);
        assert!(Position::default() < low);
    }

    #[test]
    fn hexadecimal_form_round_trips_and_rejects_anything_else() {
        let position = Position::from_bytes(&[0, 1, 0xab, 0xff]);
        assert_eq!(Position::from_hex(&position.to_hex()), Some(position));
        for wrong in ["0", "zz", "é0"] {
            assert_eq!(Position::from_hex(wrong), None);
        }
    }
}
