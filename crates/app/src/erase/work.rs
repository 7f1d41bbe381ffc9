use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use audit::{Event, Hash, Hex, Name, Purge};
use change::{Clock, Error, Kind, Raw, Result, TableName};
use gate::{KeyRing, Policy, Subject, Suppressed, Vault};
use lake::{Doomed, Lake, LakeTable, Layer, Residue, Traces};

use super::held_rows::Finder;
use super::identifiers::Identifiers;
use super::receipt::Receipt;
use super::request::{Asked, Phase, Request};
use super::{keys_of, legal_hold};
use crate::alone::Alone;
use crate::assemble;
use crate::audit::{Auditor, random};
use crate::cells::CellStore;
use crate::held::HeldStore;
use crate::project::Project;
use crate::repair;
use crate::turn::Turn;
use crate::vault::VaultFile;

/// All that is needed to erase, held alone.
pub(crate) struct Worksite {
    pub(crate) lake: Arc<Lake>,
    pub(crate) keys: KeyRing,
    pub(crate) auditor: Arc<Auditor>,
    pub(super) policy: Policy,
    vault: Arc<VaultFile>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) project: Project,
    pub(super) state_dir: PathBuf,
    _turn: Turn,
}

/// How far a request has come.
pub(crate) enum Progress {
    /// Nothing is left; the receipt lies there.
    Done(PathBuf, Receipt),
    /// Old versions still show the rows, until this time.
    Waiting(Request, change::Timestamp),
}

impl Worksite {
    /// # Errors
    /// Those of the lake, the keys, the vault and the audit log.
    pub(crate) async fn open(Alone { project, policy, turn }: Alone, clock: Arc<dyn Clock>) -> Result<Self> {
        let state_dir = project.state_dir();
        let keys = keys_of(&project, &policy)?;
        let vault = Arc::new(VaultFile::open(&state_dir, Some(keys.clone()))?);
        let lake = assemble::lake(&project).await?;
        let auditor = Auditor::open(&project, clock.clone(), audit::Program::Erase).await?;
        Ok(Self { lake, keys, auditor, policy, vault, clock, project, state_dir, _turn: turn })
    }

    /// The subject behind `source.schema.table.column`.
    pub(crate) fn subject(&self, name: &str) -> Result<Subject> {
        let (table, column) = column_of(&self.policy, name)?;
        self.policy.subject(&table, column)
    }

    /// The keyed hashes of persons, for a legal hold.
    pub(crate) fn persons(&self, subject: &Subject, ids: &Raw<Vec<String>>) -> Result<Vec<Suppressed>> {
        Ok(self.known_as(subject, ids)?.suppressed)
    }

    /// Tokens that do not tell their epoch are looked for under that of now.
    async fn check_epochs(&self, subject: &Subject) -> Result<()> {
        for table in subject.places().keys() {
            for layer in [Layer::Changes, Layer::Current] {
                let stamp = self.lake.stamp(&LakeTable::new(table.clone(), layer)?).await?;
                if stamp.is_some_and(|stamp| !subject.is_found_in(table, &stamp, &self.keys)) {
                    let what = format!("{table} is stored under another key epoch, under which nobody is looked for");
                    return Err(Error::new(Kind::Config, what).fix("Run `lockgate remask`, then erase."));
                }
            }
        }
        Ok(())
    }

    fn known_as(&self, subject: &Subject, ids: &Raw<Vec<String>>) -> Result<gate::KnownAs> {
        let vault: Arc<dyn Vault> = self.vault.clone();
        subject.known_as(ids, &self.keys, Some(&vault))
    }

    /// Records a request: from here on the persons are kept out, whatever happens. Says which lines of the input are left, because they are on
    /// legal hold. `None` when nobody is to be erased.
    pub(crate) async fn accept(
        &self,
        subject: &Subject,
        Identifiers { values: ids, lines }: &Identifiers,
        purge: Purge,
    ) -> Result<(Option<Request>, Vec<u64>)> {
        self.check_epochs(subject).await?;
        let mut known = self.known_as(subject, ids)?;
        let held = legal_hold::all(&self.lake, &self.keys).await?;
        let on_hold = legal_hold::among(&held, subject, ids, &self.keys)?;
        let free = |person: usize| !on_hold.contains(&person);
        let asked = lines.iter().zip(&known.tokens).enumerate().filter(|(person, _)| free(*person));
        let asked = asked.map(|(_, (line, tokens))| Asked { line: *line, tokens: tokens.clone() });
        let asked: Vec<Asked> = asked.collect();
        let tokens: BTreeSet<String> = asked.iter().flat_map(|asked| asked.tokens.iter().cloned()).collect();
        let vault = (0..).zip(&known.vault).filter(|(person, _)| free(*person)).map(|(_, index)| *index).collect();
        let cells = known.cells.iter().map(|(domain, persons)| {
            let persons = (0..).zip(persons).filter(|(person, _)| free(*person)).map(|(_, index)| *index);
            (domain.clone(), persons.collect())
        });
        let cells = cells.collect();
        known.suppressed.iter_mut().for_each(|persons| persons.retain(free));
        let id = Hex::of(&random::<16>()?);
        let places = subject.places().iter().map(|(table, places)| {
            (table.clone(), places.iter().map(|place| (place.column.clone(), place.nested)).collect())
        });
        let request = Request {
            id: id.as_str().to_owned(),
            subject: subject.name().to_owned(),
            at: self.clock.now(),
            purge,
            phase: Phase::Suppressed,
            on_hold: on_hold.len() as u64,
            tokens: tokens.into_iter().collect(),
            asked,
            unmatched: None,
            unmistakable: subject.is_unmistakable(),
            places: places.collect(),
            vault: subject.vault_domain().map(|domain| (domain.to_owned(), vault)),
            codes_removed: 0,
            cells,
            data_keys_destroyed: 0,
            held_rows_removed: 0,
            tables: BTreeMap::new(),
            uncounted: BTreeSet::new(),
            suppressed: known.suppressed,
        };
        self.auditor.record(Event::EraseRequested {
            request: id,
            subject: Name::new(&request.subject),
            persons: request.persons(),
            on_hold: request.on_hold,
            purge,
        })?;
        let on_hold = on_hold.iter().map(|person| lines[*person]).collect();
        if request.persons() == 0 {
            return Ok((None, on_hold));
        }
        request.save(&self.lake, &self.keys).await?;
        Ok((Some(request), on_hold))
    }

    /// Requests that are not at their end, of which a kill left some.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Request>> {
        let mut open = Vec::new();
        for path in Request::paths(&self.lake).await? {
            let request = Request::load(&self.lake, &self.keys, &path).await?;
            if !matches!(request.phase, Phase::Done(_)) {
                open.push(request);
            }
        }
        Ok(open)
    }

    /// Goes on with a request as far as it may go today. Every step may be done again.
    ///
    /// # Errors
    /// Those of lake and vault; `Privacy` when something of the persons is left at the end.
    pub(crate) async fn go_on(&self, mut request: Request) -> Result<Progress> {
        if request.phase == Phase::Suppressed {
            self.delete(&mut request).await?;
        }
        let Phase::Deleted(since) = request.phase else {
            return Err(Error::new(Kind::Bug, "a request that is done was taken up again"));
        };
        let due = since + lake::RETENTION_MICROS;
        if request.purge == Purge::After && self.clock.now() < due {
            return Ok(Progress::Waiting(request, due));
        }
        self.purge(request).await
    }

    /// Takes the rows out of every table and out of what is held back, and the codes out of the vault. What keeps it from one of them keeps it
    /// from no other: the first such error is returned at the end, and the request stays at its phase.
    async fn delete(&self, request: &mut Request) -> Result<()> {
        // Before anything is gone, and once: after a kill less is there.
        if request.unmatched.is_none() && !request.asked.is_empty() {
            request.unmatched = Some(self.unmatched(request).await?);
            request.save(&self.lake, &self.keys).await?;
        }
        self.shred(request).await?;
        let mut failed = None;
        // What an unfinished repair has seen of their rows; it reads the tables again.
        if let Err(error) = repair::forget_all(&self.state_dir) {
            failed.get_or_insert(error);
        }
        for (table, columns) in request.places.clone() {
            if let Err(error) = self.delete_from(&table, columns, request).await {
                tracing::warn!(%table, %error, "rows of the persons are still in the table");
                failed.get_or_insert(error);
            }
        }
        match self.delete_held(request) {
            Ok(rows) => request.held_rows_removed += rows,
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
        match request.vault.as_ref().map_or(Ok(0), |(domain, index)| self.vault.forget(domain, index)) {
            Ok(codes) => request.codes_removed += codes,
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            request.save(&self.lake, &self.keys).await?;
            return Err(error);
        }
        request.phase = Phase::Deleted(self.clock.now());
        self.auditor.record(Event::Erased { request: Hex::new(&*request.id)?, rows: request.rows() })?;
        request.save(&self.lake, &self.keys).await
    }

    /// Takes the rows out of both lake tables of a source table. It is written down before that this is done: after a kill nobody could count
    /// what the commits have taken out.
    async fn delete_from(&self, table: &TableName, columns: Vec<(String, bool)>, request: &mut Request) -> Result<()> {
        let first = request.uncounted.insert(table.clone());
        if first {
            request.save(&self.lake, &self.keys).await?;
        }
        let doomed = doomed(request, columns);
        let erased = self.lake.erase(table, &doomed, &self.state_dir.join("index"), self.clock.now()).await?;
        request.count(table, erased);
        if first {
            request.uncounted.remove(table);
        }
        request.save(&self.lake, &self.keys).await
    }

    fn delete_held(&self, request: &Request) -> Result<u64> {
        let Some(store) = HeldStore::existing(&self.state_dir)? else { return Ok(0) };
        let Self { project, policy, keys, clock, .. } = self;
        Finder { project, policy, keys, clock, persons: &request.suppressed }.erase(&store)
    }

    /// Destroys the data keys of the persons: from here on their cells open nowhere, in old versions and copies of the lake too.
    async fn shred(&self, request: &mut Request) -> Result<()> {
        if request.cells.is_empty() {
            return Ok(());
        }
        let store = CellStore::open(&self.state_dir, Some(self.keys.clone()))?;
        for (domain, persons) in &request.cells {
            request.data_keys_destroyed += store.destroy(domain, persons)?;
        }
        let keys = request.data_keys_destroyed;
        self.auditor.record(Event::DataKeysDestroyed { request: Hex::new(&*request.id)?, keys })?;
        request.save(&self.lake, &self.keys).await
    }

    /// Removes the history of every table that had something of the persons, and shows that nothing is left anywhere.
    async fn purge(&self, mut request: Request) -> Result<Progress> {
        let before = self.search(&request).await?;
        let traced = before.found.keys().filter_map(|path| self.lake.table_of(path)).collect();
        let (mut objects_removed, mut failed) = (0, None);
        for table in request.tables_to_purge(traced)? {
            match self.lake.purge_history(&table, self.clock.now()).await {
                Ok(removed) => objects_removed += removed,
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)?;
        let after = self.search(&request).await?;
        if let Some(path) = after.found.keys().next() {
            let what = format!("something of the persons is left in {} objects, {path} among them", after.found.len());
            return Err(Error::new(Kind::Privacy, what)
                .fix("Look whether something else writes into the lake; then run `lockgate erase --due`."));
        }
        let receipt = Receipt {
            request: request.id.clone(),
            subject: request.subject.clone(),
            asked_at: request.at,
            done_at: self.clock.now(),
            persons: request.matched(),
            persons_suppressed: request.persons(),
            unmatched_lines: request.unmatched().to_vec(),
            on_hold: request.on_hold,
            tables: request.tables.clone(),
            vault_codes_removed: request.codes_removed,
            data_keys_destroyed: request.data_keys_destroyed,
            held_rows_removed: request.held_rows_removed,
            traces_removed: before.found.into_iter().map(|(path, hash)| (path, Hash(hash))).collect(),
            objects_removed,
            scanned_objects: after.objects,
            scanned_bytes: after.bytes,
            objects_with_traces: 0,
            lockgate: env!("CARGO_PKG_VERSION"),
        };
        let (path, hash) = receipt.write(&self.state_dir)?;
        let objects = after.objects;
        self.auditor.record(Event::ErasePurged { request: Hex::new(&*request.id)?, objects, receipt: hash })?;
        request.phase = Phase::Done(receipt.done_at);
        request.tokens = Vec::new();
        request.asked = Vec::new();
        request.cells = Vec::new();
        request.save(&self.lake, &self.keys).await?;
        Ok(Progress::Done(path, receipt))
    }

    async fn search(&self, request: &Request) -> Result<Residue> {
        let in_columns = request.places.iter().filter(|_| !request.unmistakable);
        let in_columns = in_columns.map(|(table, columns)| (table.clone(), doomed(request, columns.clone())));
        let anywhere: &[String] = if request.unmistakable { &request.tokens } else { &[] };
        self.lake.search(Traces::new(anywhere, in_columns.collect())?).await
    }
}

/// The table and column behind `source.schema.table.column`.
///
/// # Errors
/// `Config` when the policy has no such table.
pub(crate) fn column_of<'a>(policy: &Policy, name: &'a str) -> Result<(TableName, &'a str)> {
    let wrong = || {
        Error::new(Kind::Config, format!("`{name}` names no column of the policy"))
            .fix("Write it as source.schema.table.column.")
    };
    let mut tables = policy.tables();
    tables
        .find_map(|table| Some((table.clone(), name.strip_prefix(&table.to_string())?.strip_prefix('.')?)))
        .ok_or_else(wrong)
}

pub(super) fn doomed(request: &Request, columns: Vec<(String, bool)>) -> Doomed {
    Doomed { columns, values: Arc::new(request.tokens.iter().cloned().collect()) }
}
