//! A source goes on from what it was told is durable, and that may lie behind what is: what it sends again is passed over.

use change::{ChangeBatch, Event, Origin, Position};

/// Passes over what lies at or below a position, until a boundary above it has come.
#[derive(Default)]
pub(crate) struct Resent(Option<Position>);

impl Resent {
    /// Everything at or below is known.
    pub(crate) fn through(position: Position) -> Self {
        Self(Some(position))
    }

    /// Whether the source has not come so far again.
    pub(crate) fn covers(&self, position: &Position) -> bool {
        self.0.as_ref().is_some_and(|through| position <= through)
    }

    /// What of an event is new.
    pub(crate) fn pass(&mut self, event: Event) -> Option<Event> {
        let Some(through) = &self.0 else { return Some(event) };
        match event {
            Event::Changes(batch) if batch.origin() == Origin::Stream => above(batch, through).map(Event::Changes),
            Event::Truncated { ref position, .. } if position <= through => None,
            Event::Boundary(boundary) if boundary.through <= *through => None,
            Event::Boundary(boundary) => {
                self.0 = None;
                Some(Event::Boundary(boundary))
            }
            event => Some(event),
        }
    }
}

fn above(batch: ChangeBatch, through: &Position) -> Option<ChangeBatch> {
    let new = batch.split(through).1;
    (!new.is_empty()).then_some(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::DataType;
    use change::{Checkpoint, Column, Identity, Op, RowMetaBuilder, TableName, TableSchema, Unsent};

    use super::*;

    fn batch(positions: &[u8]) -> Event {
        let column = Column {
            name: "id".into(),
            data_type: DataType::Int64,
            nullable: false,
            source_type: "bigint".into(),
            number: None,
        };
        let schema = TableSchema {
            table: TableName::new("db", "public", "t"),
            columns: vec![column],
            identity: Identity::Key(vec![0]),
        };
        let mut meta = RowMetaBuilder::default();
        positions.iter().for_each(|at| meta.push(Op::Insert, &[*at], 0, 1, 1));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(positions.iter().map(|at| i64::from(*at))));
        let unsent = Unsent::none(1);
        Event::Changes(
            ChangeBatch::try_new(Arc::new(schema), Origin::Stream, vec![ids], meta.finish(), unsent).unwrap(),
        )
    }

    fn boundary(through: u8) -> Event {
        let through = Position::from_bytes(&[through]);
        Event::Boundary(Checkpoint { stream: "db".into(), through, identity: "i".into() })
    }

    fn rows(passed: Option<Event>) -> usize {
        match passed {
            Some(Event::Changes(batch)) => batch.len(),
            Some(_) => panic!("another event"),
            None => 0,
        }
    }

    #[test]
    fn only_what_lies_above_passes_until_a_boundary_above_has_come() {
        let mut resent = Resent::through(Position::from_bytes(&[5]));
        assert_eq!(rows(resent.pass(batch(&[3, 4, 5]))), 0);
        assert_eq!(rows(resent.pass(batch(&[4, 5, 6, 7]))), 2);
        assert!(resent.pass(boundary(5)).is_none());
        assert!(resent.covers(&Position::from_bytes(&[5])) && !resent.covers(&Position::from_bytes(&[6])));
        assert!(resent.pass(boundary(8)).is_some());
        assert_eq!(rows(resent.pass(batch(&[9]))), 1);
        assert!(!resent.covers(&Position::from_bytes(&[5])));
        assert_eq!(rows(Resent::default().pass(batch(&[1]))), 1);
    }
}
