//! The model that a policy's free text is searched with: read from its folder, compared with the SHA-256 that the policy names, prepared.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use change::Result;
use gate::{EntityFinder, Label, NotSearched, Policy};

/// Whether a model is being asked on this thread: it may panic.
pub(crate) fn is_asking() -> bool {
    #[cfg(feature = "ner")]
    return ner::is_asking();
    #[cfg(not(feature = "ner"))]
    false
}

/// Stands for the model where no text is searched, and finds none searched.
struct Absent(String);

impl EntityFinder for Absent {
    fn model(&self) -> &str {
        &self.0
    }

    fn find(&self, _: &str) -> std::result::Result<Vec<(Range<usize>, Label)>, NotSearched> {
        Err(NotSearched)
    }
}

/// What stands for the model of a policy in a gate through which no row goes.
pub(crate) fn absent(policy: &Policy) -> Option<Arc<dyn EntityFinder>> {
    let model = policy.model()?;
    Some(Arc::new(Absent(model.sha256.clone())))
}

/// The model of a policy, ready to be asked; `None` when the policy names none. `dir` is the project folder.
///
/// # Errors
/// `Config` when a file is missing or wrong, it is another model, or this program was built without models.
#[cfg(feature = "ner")]
pub(crate) fn load(policy: &Policy, dir: &Path) -> Result<Option<Arc<dyn EntityFinder>>> {
    let Some(model) = policy.model() else { return Ok(None) };
    let folder = dir.join(&model.folder);
    let files = ner::Files::read(|name| read(&folder.join(name)));
    let files = files.map_err(|error| error.context(&model.folder))?;
    let sha256 = files.sha256();
    if sha256 != model.sha256 {
        let names: Vec<&str> = files.names().collect();
        let what = format!("the model in {} is not the one that the policy names", model.folder);
        let fix = format!(
            "Put the named one back ({}); or, when this is to be the policy's model, write `sha256: {sha256}`.",
            names.join(", ")
        );
        return Err(change::Error::new(change::Kind::Config, what).fix(fix));
    }
    let finder = ner::Finder::load(&files).map_err(|error| error.context(&model.folder))?;
    Ok(Some(Arc::new(finder)))
}

/// A file's bytes; `None` when there is none.
#[cfg(feature = "ner")]
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(change::Error::new(change::Kind::Config, format!("{} cannot be read", path.display()))
            .source(error)
            .fix("Let the user whom Lockgate runs as read the model's folder.")),
    }
}

/// As above, in a program without models.
#[cfg(not(feature = "ner"))]
pub(crate) fn load(policy: &Policy, _: &Path) -> Result<Option<Arc<dyn EntityFinder>>> {
    match policy.model() {
        None => Ok(None),
        Some(_) => Err(change::Error::new(
            change::Kind::Config,
            "the policy asks a model (`scrub_text(detect+ner)`), and this lockgate was built without models",
        )
        .fix("Build it with them: `make build ARGS=\"--features ner\"`; or use the tier detect.")),
    }
}
