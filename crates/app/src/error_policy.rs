//! One table from the kind of an error to what is done about it.

use change::Kind;

/// What the pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again with growing pauses; the source keeps what is not confirmed.
    Retry,
    /// Stop this table and go on with the others; the source keeps its changes.
    StopTable,
    /// Stop everything.
    StopPipeline,
}

/// What is done about an error that one table's worker met.
pub fn table_action(kind: Kind) -> Action {
    match kind {
        Kind::Unavailable | Kind::Full => Action::Retry,
        Kind::Contract | Kind::Privacy | Kind::Data | Kind::Conflict | Kind::SourceGone => Action::StopTable,
        Kind::Config | Kind::Auth | Kind::Bug => Action::StopPipeline,
    }
}

/// The exit code of the process that ends with an error of this kind.
pub(crate) fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Config | Kind::Auth | Kind::SourceGone | Kind::Conflict | Kind::Full | Kind::Bug => 1,
        Kind::Contract | Kind::Privacy | Kind::Data => 3,
        Kind::Unavailable => 4,
    }
}
