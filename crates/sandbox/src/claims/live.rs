use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::canary::{self, Canary};
use super::dice::Dice;
use super::identifiers::npi;
use super::people::member_id;
use super::row::Row;
use super::rows::{Claims, PLANS, claim_id, note_id};
use super::schema::{Table, schema_changes};

/// What a statement does to its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Adds rows.
    Insert,
    /// Changes rows that keep their key.
    Update,
    /// Changes the key of rows: a delete and an insert to whoever follows the log.
    Move,
    /// Removes rows.
    Delete,
    /// Removes all rows of the table.
    Truncate,
}

/// One statement on one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The table.
    pub table: Table,
    /// What it does.
    pub kind: Kind,
    /// The statement; its values are invented.
    pub sql: String,
}

/// Statements that take effect together, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// In order.
    pub statements: Vec<Statement>,
    /// False when the transaction is rolled back at its end, as some are.
    pub commits: bool,
}

/// What was committed to one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableTally {
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated with their key kept.
    pub updated: u64,
    /// Rows updated with another key.
    pub moved: u64,
    /// Rows deleted, truncated ones not among them.
    pub deleted: u64,
    /// Times the table was truncated.
    pub truncated: u64,
}

impl TableTally {
    /// The entries that a log of every change must have: two for a moved row, one for a truncate.
    pub fn log_entries(&self) -> u64 {
        self.inserted + self.updated + 2 * self.moved + self.deleted + self.truncated
    }
}

/// What was committed, as the server counted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By table; a table that is absent was not changed.
    pub tables: BTreeMap<Table, TableTally>,
    /// Transactions that committed.
    pub transactions: u64,
}

impl Tally {
    /// Rows changed in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|t| t.inserted + t.updated + t.moved + t.deleted).sum()
    }

    fn add(&mut self, table: Table, kind: Kind, rows: u64) {
        let tally = self.tables.entry(table).or_default();
        match kind {
            Kind::Insert => tally.inserted += rows,
            Kind::Update => tally.updated += rows,
            Kind::Move => tally.moved += rows,
            Kind::Delete => tally.deleted += rows,
            Kind::Truncate => tally.truncated += 1,
        }
    }
}

/// A working day on the plan's database: new claims, late re-pricing of lines up to 30 days old, amended notes whose text stays as it is,
/// corrections of keys, deletes, a landing table that is emptied, and a migration when [`Live::migrate`] is called.
///
/// The transactions follow from the data's seed; what they do to a database follows from that and from its rows.
#[derive(Debug)]
pub struct Live {
    data: Claims,
    transaction: u64,
    next_claim: u64,
    next_member: u64,
    next_provider: u64,
    next_note: u64,
    next_batch: u64,
    migrated: bool,
    canaries: Vec<Canary>,
    tally: Tally,
}

impl Live {
    /// The day after the first load of `data`.
    pub fn new(data: Claims) -> Self {
        let scale = data.scale();
        Self {
            data,
            transaction: 0,
            next_claim: scale.claims,
            next_member: scale.members,
            next_provider: scale.providers,
            next_note: scale.notes,
            next_batch: 1,
            migrated: false,
            canaries: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// What was committed so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The values planted so far, those of the first load not among them.
    pub fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    /// Changes the schema as a migration would; from here on, new members have the new column, with a canary in it.
    pub async fn migrate(&mut self, client: &Client) -> Result<()> {
        client.batch_execute(schema_changes()).await.context("the migration failed")?;
        self.migrated = true;
        Ok(())
    }

    /// Commits transactions for `time`, `per_second` changed rows in each second, or as fast as the server goes when it is slower.
    pub async fn run(&mut self, client: &Client, per_second: u32, time: Duration) -> Result<()> {
        let begin = Instant::now();
        let before = self.tally.rows();
        while begin.elapsed() < time {
            let due = (self.tally.rows() - before) as f64 / f64::from(per_second.max(1));
            tokio::time::sleep_until(begin + Duration::from_secs_f64(due).min(time)).await;
            if begin.elapsed() < time {
                self.step(client).await?;
            }
        }
        Ok(())
    }

    /// Draws the next transaction and runs it.
    pub async fn step(&mut self, client: &Client) -> Result<()> {
        let transaction = self.draw();
        let mut sql = String::from("BEGIN;");
        for statement in &transaction.statements {
            sql.push_str(&statement.sql);
            sql.push(';');
        }
        sql.push_str(if transaction.commits { "COMMIT" } else { "ROLLBACK" });
        let answers = client.simple_query(&sql).await.context("a transaction of the live workload failed")?;
        if transaction.commits {
            // The first answer is BEGIN's.
            let counts = answers.iter().filter_map(|answer| match answer {
                SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
                _ => None,
            });
            for (statement, rows) in transaction.statements.iter().zip(counts.skip(1)) {
                self.tally.add(statement.table, statement.kind, rows);
            }
            self.tally.transactions += 1;
        }
        Ok(())
    }

    /// Draws the next transaction; whoever takes it runs it.
    pub fn draw(&mut self) -> Transaction {
        let mut dice = Dice::new(self.data.seed, 9, self.transaction);
        self.transaction += 1;
        let statements = match dice.below(100) {
            0..45 => self.new_claim(&mut dice),
            45..72 => self.reprice(&mut dice),
            72..80 => self.amend_note(&mut dice),
            80..84 => self.new_member(),
            84..88 => self.move_house(&mut dice),
            88..93 => self.remove(&mut dice),
            93..97 => self.change_key(&mut dice),
            _ => self.reload_staging(&mut dice),
        };
        Transaction { statements, commits: !dice.percent(2) }
    }

    fn new_claim(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let number = self.next_claim;
        self.next_claim += 1;
        let facts = self.data.facts(number);
        let person = self.data.person(facts.member);
        let claim = insert(Table::Claims, [0], |_, row| self.data.claim(number, row));
        let lines = insert(Table::ClaimLines, 1..=facts.lines, |line, row| self.data.line(&facts, &person, line, row));
        let mut statements = vec![claim, lines];
        if dice.percent(25) {
            let note = self.next_note;
            self.next_note += 1;
            statements.push(insert(Table::ClaimNotes, [note], |note, row| self.data.note(note, number, row)));
        }
        statements
    }

    fn reprice(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let claims =
            (0..=dice.below(25)).map(|_| claim_id(self.recent_claim(dice)).to_string()).collect::<Vec<_>>().join(",");
        let share = 30 + dice.below(70);
        let second = self.transaction % 60;
        vec![
            update(
                Table::ClaimLines,
                format!(
                    "allowed_amount = round(charge_amount * {share} / 100, 2), paid_amount = round(charge_amount * {share} / 125, 2), \
                     line_status = 'REPRICED', repriced_at = '2026-10-01 09:00:{second:02}.{:06}+00' WHERE claim_id IN ({claims})",
                    dice.below(1_000_000)
                ),
            ),
            update(
                Table::Claims,
                format!(
                    "total_paid = round(total_charge * {share} / 125, 2), status = 'REPRICED' WHERE claim_id IN ({claims})"
                ),
            ),
        ]
    }

    /// The text stays as it is: when it is too long to lie in the row, the log does not hold it.
    fn amend_note(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let notes =
            (0..=dice.below(8)).map(|_| note_id(dice.below(self.next_note)).to_string()).collect::<Vec<_>>().join(",");
        let status = dice.pick(&["SIGNED", "AMENDED", "LOCKED"]);
        vec![update(Table::ClaimNotes, format!("status = '{status}' WHERE note_id IN ({notes})"))]
    }

    fn new_member(&mut self) -> Vec<Statement> {
        let number = self.next_member;
        self.next_member += 1;
        let watched = self.data.is_watched(number);
        if watched {
            self.canaries.extend(canary::of_member(&self.data.person(number)));
        }
        let mut statements = vec![insert(Table::Members, [number], |number, row| self.data.member(number, row))];
        if self.migrated {
            let value = format!("ask for {} at the desk", canary::word(number + CONTACT_WORDS));
            if watched {
                self.canaries.push(Canary { column: "members.preferred_contact", value: value.clone() });
            }
            statements.push(update(
                Table::Members,
                format!("preferred_contact = '{value}' WHERE member_id = {}", member_id(number)),
            ));
        }
        statements
    }

    fn move_house(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let member = dice.below(self.next_member);
        let place = dice.pick(super::people::PLACES);
        vec![update(
            Table::Members,
            format!(
                "address = '{} {} Way', city = '{}', state = '{}', zip = '{}{:02}', plan_code = '{}' WHERE member_id = {}",
                1 + dice.below(900),
                dice.pick(super::people::STREETS),
                place.city,
                place.state,
                place.zip3,
                1 + dice.below(98),
                dice.pick(PLANS),
                member_id(member)
            ),
        )]
    }

    fn remove(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let claim = claim_id(self.recent_claim(dice));
        if dice.percent(60) {
            return vec![delete(Table::ClaimLines, format!("claim_id = {claim} AND line_number > 1"))];
        }
        vec![
            delete(Table::ClaimNotes, format!("claim_id = {claim}")),
            delete(Table::ClaimLines, format!("claim_id = {claim}")),
            delete(Table::Claims, format!("claim_id = {claim}")),
        ]
    }

    fn change_key(&mut self, dice: &mut Dice) -> Vec<Statement> {
        match dice.below(3) {
            0 => {
                let (from, to) = (npi(dice.below(self.next_provider)), npi(self.next_provider));
                self.next_provider += 1;
                vec![rekey(Table::Providers, format!("npi = '{to}' WHERE npi = '{from}'"))]
            }
            1 => {
                let claim = claim_id(self.recent_claim(dice));
                let by = 20 + dice.below(10);
                let fits = format!("claim_id = {claim} AND line_number < 1000");
                vec![rekey(Table::ClaimLines, format!("line_number = line_number + {} WHERE {fits}", by * 20))]
            }
            _ => {
                let from = note_id(dice.below(self.next_note));
                let to = note_id(self.next_note);
                self.next_note += 1;
                vec![rekey(Table::ClaimNotes, format!("note_id = {to} WHERE note_id = {from}"))]
            }
        }
    }

    fn reload_staging(&mut self, dice: &mut Dice) -> Vec<Statement> {
        let batch = self.next_batch;
        self.next_batch += 1;
        let rows = 20 + dice.below(80);
        let truncate = Statement {
            table: Table::EligibilityStaging,
            kind: Kind::Truncate,
            sql: "TRUNCATE eligibility_staging".to_owned(),
        };
        let fill = insert(Table::EligibilityStaging, 1..=rows, |n, row| self.data.staged(batch, n, row));
        vec![truncate, fill]
    }

    /// A claim that came in at most 30 days before the newest.
    fn recent_claim(&self, dice: &mut Dice) -> u64 {
        let window = (self.data.scale().claims * 30 / 400).max(1) + (self.next_claim - self.data.scale().claims);
        self.next_claim - 1 - dice.below(window)
    }
}

// Words for contacts begin here, far from those for names and remarks.
const CONTACT_WORDS: u64 = 200_000_000;

fn insert(table: Table, numbers: impl IntoIterator<Item = u64>, fill: impl Fn(u64, &mut Row)) -> Statement {
    let mut sql = String::new();
    let mut row = Row::default();
    for number in numbers {
        sql.push_str(if sql.is_empty() { "" } else { "," });
        row.clear();
        fill(number, &mut row);
        row.sql(&mut sql);
    }
    // Columns that a migration has added come after these and stay null.
    Statement { table, kind: Kind::Insert, sql: format!("INSERT INTO {} VALUES {sql}", table.name()) }
}

fn update(table: Table, rest: String) -> Statement {
    Statement { table, kind: Kind::Update, sql: format!("UPDATE {} SET {rest}", table.name()) }
}

fn rekey(table: Table, rest: String) -> Statement {
    Statement { table, kind: Kind::Move, sql: format!("UPDATE {} SET {rest}", table.name()) }
}

fn delete(table: Table, which: String) -> Statement {
    Statement { table, kind: Kind::Delete, sql: format!("DELETE FROM {} WHERE {which}", table.name()) }
}
