use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Position};

/// A stream that begins anew behind a gap: what was changed in the gap is found by comparing tables with their source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshStart {
    /// Where the rows that comparing finds stand: above everything that was recorded before, below everything that will be streamed.
    pub found_at: Position,
    /// The boundary at which the new stream begins. Everything committed at or below it is visible to whoever reads the source now.
    pub stream: Checkpoint,
}

/// How far the repair of a source is: stored in the lake, because a run must not go on while tables lack what the gap swallowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairMark {
    /// Where the new stream begins; `None` until its slot was made.
    pub start: Option<FreshStart>,
    /// Every table that can be compared was. Those that stand below the new stream nevertheless have to be copied anew.
    pub finished: bool,
}
