use std::error::Error as StdError;
use std::io;

use change::{Error, Kind};

/// Turns an error of a library into ours: the kind by its innermost cause, the place in front, and no text that could quote a row.
pub(crate) trait Explain<T> {
    /// `doing` says what was tried and where: `cannot write lake/a.parquet`.
    fn explain(self, doing: impl FnOnce() -> String) -> change::Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> Explain<T> for Result<T, E> {
    fn explain(self, doing: impl FnOnce() -> String) -> change::Result<T> {
        self.map_err(|error| of(&error, doing()))
    }
}

/// What another library says that reads the lake's files, with the file where it tells which; `None` when the files are not the reason.
pub fn unreadable(error: &(dyn StdError + 'static)) -> Option<Error> {
    use parquet::errors::ParquetError;
    let (mut cause, mut missing, mut of_files) = (Some(error), None, false);
    while let Some(found) = cause {
        if let Some(object_store::Error::NotFound { path, .. }) = found.downcast_ref() {
            missing = Some(format!("{path} of the lake"));
        }
        if let Some(ParquetError::General(text)) = found.downcast_ref()
            && let Some(path) = unfetched(text)
        {
            return Some(Error::new(Kind::Data, format!("{path} of the lake cannot be read")).fix(REMOVED));
        }
        of_files |= found.is::<object_store::Error>() || found.is::<io::Error>() || found.is::<ParquetError>();
        cause = inner(found);
    }
    let what = missing.unwrap_or_else(|| "a table of the lake".into());
    of_files.then(|| of(error, format!("{what} cannot be read")))
}

/// The file in what DataFusion says of one whose footer could not be fetched: its reason is text only, and the file has no row yet.
fn unfetched(text: &str) -> Option<&str> {
    text.strip_prefix("Failed to fetch metadata for file ")?
        .split(": ")
        .next()
        .filter(|_| text.contains(" not found: "))
}

/// What to do about a file that is not there.
const REMOVED: &str = "Do not remove files from the lake by hand; restore it, or copy the table anew.";

/// Arrow, Parquet and JSON errors may quote a value, so their text is left out; those of stores and of the operating system are kept.
fn of(error: &(dyn StdError + 'static), doing: String) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut store: Option<&object_store::Error> = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // An object store may wrap its own error in an io::Error; the inner one knows more.
            if error.get_ref().is_none() || error.raw_os_error().is_some() {
                return of_io(error, doing);
            }
        }
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            store = Some(error);
        }
        cause = inner(error);
    }
    match store {
        Some(error) => of_store(error, doing),
        None => Error::new(Kind::Data, format!("{doing}: {}", class(error)))
            .fix("Restore the file from a backup, or take both folders of the table out of the lake, so that it is copied anew."),
    }
}

/// The next cause; `io::Error::source` skips the error that it wraps, and some wrappers do not implement `source` at all.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    use deltalake::errors::DeltaTableError;
    use parquet::errors::ParquetError;
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inner| inner as &(dyn StdError + 'static));
    }
    if let Some(ParquetError::External(inner)) = error.downcast_ref::<ParquetError>() {
        return Some(inner.as_ref());
    }
    if let Some(DeltaTableError::ObjectStore { source }) = error.downcast_ref::<DeltaTableError>() {
        return Some(source);
    }
    match error.downcast_ref::<buoyant_kernel::Error>() {
        Some(buoyant_kernel::Error::ObjectStore(inner)) => Some(inner),
        Some(buoyant_kernel::Error::IOError(inner)) => Some(inner),
        Some(buoyant_kernel::Error::GenericError { source }) => Some(source.as_ref()),
        Some(buoyant_kernel::Error::Backtraced { source, .. }) => Some(source.as_ref()),
        _ => error.source(),
    }
}

fn of_io(error: &io::Error, doing: String) -> Error {
    let (kind, fix) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (Kind::Full, "Free some space there, or move the lake to a larger disk; then start again. Nothing is lost.")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Kind::Auth, "Give the user that runs Lockgate the right to write there.")
        }
        io::ErrorKind::NotFound => (Kind::Data, REMOVED),
        _ => (Kind::Unavailable, "Look at the disk's state."),
    };
    Error::new(kind, format!("{doing}: {error}")).fix(fix)
}

fn of_store(error: &object_store::Error, doing: String) -> Error {
    use object_store::Error as Store;
    let (kind, fix) = match error {
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => (
            Kind::Auth,
            "Check the lake's credentials and that they may read, write, list and delete under its prefix.",
        ),
        Store::NotFound { .. } => {
            (Kind::Data, "Check the bucket's or container's name; do not remove files from the lake by hand.")
        }
        Store::UnknownConfigurationKey { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (Kind::Config, "Check the lake's storage options.")
        }
        _ => (Kind::Unavailable, "Check that the store can be reached; it is tried again."),
    };
    Error::new(kind, format!("{doing}: {error}")).fix(fix)
}

fn class(error: &(dyn StdError + 'static)) -> &'static str {
    use arrow::error::ArrowError;
    use deltalake::errors::DeltaTableError;
    use parquet::errors::ParquetError;
    if error.is::<ArrowError>() {
        "the columns do not fit"
    } else if error.is::<ParquetError>() {
        "the Parquet file cannot be read or written"
    } else if error.is::<DeltaTableError>() {
        "the table's Delta log cannot be read"
    } else {
        "the content cannot be read"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_under_wrappers() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let store = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(full) };
        let parquet = parquet::errors::ParquetError::External(Box::new(store));
        let error = Err::<(), _>(parquet).explain(|| "cannot write x".into()).unwrap_err();
        assert_eq!(error.kind(), Kind::Full);
    }

    #[test]
    fn a_store_that_fails_while_the_log_is_read_is_found_under_the_kernel() {
        let store = object_store::Error::Generic { store: "S3", source: "503".into() };
        let kernel = buoyant_kernel::Error::generic_err(buoyant_kernel::Error::ObjectStore(store));
        let error = Err::<(), _>(deltalake::DeltaTableError::KernelError(kernel)).explain(|| "cannot read".into());
        assert_eq!(error.unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn arrow_text_is_not_repeated() {
        let quoting = arrow::error::ArrowError::CastError("Cannot cast string '123-45-6789'".into());
        let error = Err::<(), _>(quoting).explain(|| "cannot convert".into()).unwrap_err();
        assert!(!error.to_string().contains("6789"));
    }
}
