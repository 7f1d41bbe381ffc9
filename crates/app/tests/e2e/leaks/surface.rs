//! Where a value could come out.

use std::path::Path;

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Surface {
    /// Data files of tables and change logs, with their statistics, dictionaries, indexes and filters.
    Data,
    /// Deletion vectors.
    DeletionVectors,
    /// The Delta log's commits.
    DeltaLog,
    /// The Delta log's checkpoints.
    LogCheckpoints,
    /// What the run keeps beside the tables.
    LakeState,
    /// The journals of files that a remasking has written and no commit names yet.
    StagingJournal,
    /// The marks of tables whose remasking is not finished.
    RemaskMark,
    /// The key index.
    KeyIndex,
    /// The vault of codes and the store of data keys, their journals too.
    Vault,
    /// The rows that are held back, with their journal.
    HeldRows,
    /// What waits for a lake that is away.
    Spool,
    /// What an unfinished repair has seen of its source.
    RepairProgress,
    /// Who has a turn in the project folder, and who wants one.
    Turns,
    /// What remaskings and erasures have written down of themselves.
    Receipts,
    /// What else lies in the project folder.
    ProjectState,
    /// Temporary files and files without a name.
    Temporary,
    /// Names of files and folders.
    Paths,
    /// Log lines for people.
    TextLog,
    /// Log lines for machines.
    JsonLog,
    /// What commands print, and how they refuse.
    Printed,
    /// Answers of queries.
    Answers,
    /// What the source's server is asked: statements, slots, names of sessions.
    Statements,
}

impl Surface {
    pub(crate) const ALL: [Self; 22] = [
        Self::Data,
        Self::DeletionVectors,
        Self::DeltaLog,
        Self::LogCheckpoints,
        Self::LakeState,
        Self::StagingJournal,
        Self::RemaskMark,
        Self::KeyIndex,
        Self::Vault,
        Self::HeldRows,
        Self::Spool,
        Self::RepairProgress,
        Self::Turns,
        Self::Receipts,
        Self::ProjectState,
        Self::Temporary,
        Self::Paths,
        Self::TextLog,
        Self::JsonLog,
        Self::Printed,
        Self::Answers,
        Self::Statements,
    ];

    /// What a file of a project folder is part of.
    pub(crate) fn of(path: &Path, project: &Path) -> Self {
        let below = path.strip_prefix(project).unwrap_or(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let has = |folder: &str| below.components().any(|part| part.as_os_str() == folder);
        match name.as_str() {
            _ if has("tmp") => Self::Temporary,
            name if name.starts_with("vault.sqlite") || name.starts_with("cells.sqlite") => Self::Vault,
            name if name.starts_with("held.sqlite") => Self::HeldRows,
            name if name.ends_with(".spool") => Self::Spool,
            _ if has(".lockgate") && has("repair") => Self::RepairProgress,
            _ if has("index") => Self::KeyIndex,
            _ if has("_lockgate") && has("staged") => Self::StagingJournal,
            _ if has("_lockgate") && has("remasking") => Self::RemaskMark,
            _ if has("_lockgate") => Self::LakeState,
            "turn.lock" | "wish.lock" | "remask.lock" => Self::Turns,
            _ if has("receipts") => Self::Receipts,
            name if has("_delta_log") && name.ends_with(".json") => Self::DeltaLog,
            _ if has("_delta_log") => Self::LogCheckpoints,
            name if name.ends_with(".parquet") => Self::Data,
            name if name.ends_with(".bin") => Self::DeletionVectors,
            _ => Self::ProjectState,
        }
    }
}
