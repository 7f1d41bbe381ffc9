//! What a run has done between two looks at its counters: one entry for a table's commits, however many there were.

use ::audit::{Event, Hex, Name, Reason};

use crate::watch::{Seen, SpoolSeen, TableSeen};

pub(super) fn between(before: &Seen, now: &Seen, policy: &Hex) -> Vec<Event> {
    let (none, no_spool) = (TableSeen::default(), SpoolSeen::default());
    let of_tables = now
        .tables
        .iter()
        .flat_map(|(name, seen)| of_table(&Name::new(name), before.tables.get(name).unwrap_or(&none), seen, policy));
    let of_spools = now
        .spools
        .iter()
        .flat_map(|(name, seen)| of_spool(&Name::new(name), before.spools.get(name).unwrap_or(&no_spool), seen));
    of_spools.chain(of_tables).collect()
}

fn of_spool(source: &Name, before: &SpoolSeen, now: &SpoolSeen) -> Vec<Event> {
    let mut events = Vec::new();
    if now.filled > before.filled {
        events.push(Event::SpoolFilled { source: source.clone() });
    }
    if now.drained > before.drained {
        events.push(Event::SpoolDrained { source: source.clone() });
    }
    events
}

fn of_table(table: &Name, before: &TableSeen, now: &TableSeen, policy: &Hex) -> Vec<Event> {
    let mut events = Vec::new();
    if now.schema_changes > before.schema_changes {
        events.push(Event::SchemaChanged { table: table.clone() });
    }
    if !now.dropped_columns.is_empty() && now.dropped_columns != before.dropped_columns {
        let columns = now.dropped_columns.iter().map(Name::new).collect();
        events.push(Event::ColumnsDropped { table: table.clone(), columns });
    }
    // After a restart within the run, counters go on.
    if now.rows_durable != before.rows_durable || now.version != before.version {
        events.push(Event::TableCommitted {
            table: table.clone(),
            from: before.version,
            version: now.version,
            rows: now.rows_durable.saturating_sub(before.rows_durable),
            policy: policy.clone(),
        });
    }
    if now.stopped.is_some() && before.stopped.is_none() {
        events.push(Event::TableStopped { table: table.clone(), reason: now.stopped_by.unwrap_or(Reason::Contract) });
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_commits_are_one_entry_and_nothing_new_is_none() {
        let policy = Hex::new("ab").unwrap();
        let (mut before, mut now) = (Seen::default(), Seen::default());
        before
            .tables
            .insert("db.public.t".into(), TableSeen { version: Some(3), rows_durable: 10, ..TableSeen::default() });
        let table = TableSeen {
            version: Some(9),
            rows_durable: 25,
            stopped: Some("free text that must not come in".into()),
            stopped_by: Some(Reason::Privacy),
            dropped_columns: vec!["new".into()],
            ..TableSeen::default()
        };
        now.tables.insert("db.public.t".into(), table);
        now.spools.insert("db".into(), SpoolSeen { filled: 1, drained: 1 });
        let name = Name::new("db.public.t");
        let expected = [
            Event::SpoolFilled { source: Name::new("db") },
            Event::SpoolDrained { source: Name::new("db") },
            Event::ColumnsDropped { table: name.clone(), columns: vec![Name::new("new")] },
            Event::TableCommitted {
                table: name.clone(),
                from: Some(3),
                version: Some(9),
                rows: 15,
                policy: policy.clone(),
            },
            Event::TableStopped { table: name, reason: Reason::Privacy },
        ];
        assert_eq!(between(&before, &now, &policy), expected);
        assert_eq!(between(&now, &now, &policy), []);
    }
}
