//! What is said when DataFusion cannot answer: the innermost cause, once, and what to do about that one.

use std::error::Error as StdError;

use change::{Error, Kind};
use datafusion::error::DataFusionError;

/// The lake holds cleared values only, so DataFusion's own words may be shown.
pub(crate) fn refused(error: DataFusionError) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(ours) = found.downcast_ref::<Error>() {
            let refused = Error::new(ours.kind(), ours.what());
            return match ours.how_to_fix() {
                Some(fix) => refused.fix(fix),
                None => refused,
            };
        }
        cause = found.source();
    }
    if let Some(unreadable) = lake::unreadable(&error) {
        return unreadable;
    }
    let root = error.find_root();
    let words = root.message();
    let words = words.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim();
    Error::new(Kind::Config, format!("the statement cannot be run: {words}")).fix(fix(root, words))
}

fn fix(root: &DataFusionError, words: &str) -> &'static str {
    match root {
        DataFusionError::Plan(_) if words.starts_with("table '") => {
            "List what there is: lockgate query \"SHOW TABLES\""
        }
        DataFusionError::Plan(_) if words.contains(" not supported: ") => {
            "Ask with SELECT: the lake is read here and never written."
        }
        DataFusionError::SQL(..) => "Correct the statement. Names with capitals or spaces stand in double quotes.",
        DataFusionError::SchemaError(..) => {
            "List the columns: lockgate query \"DESCRIBE source.schema.table\"; names with capitals or spaces stand in double quotes."
        }
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => {
            "Leave out the values that the expression cannot take (WHERE, NULLIF), or use TRY_CAST."
        }
        _ => "Correct the statement.",
    }
}
