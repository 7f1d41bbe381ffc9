//! Runs the program and looks at every file that it holds open for writing, those without a name too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often the open files are looked at: a file that lives shorter may be missed.
const EVERY: Duration = Duration::from_millis(2);

/// What a watched process did.
pub(crate) struct Watched {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The paths of all files that were open for writing.
    pub(crate) written: BTreeSet<PathBuf>,
    /// The last content of each that had lost its name, or lay outside `dir`.
    pub(crate) nameless: BTreeMap<PathBuf, Vec<u8>>,
}

/// A process whose temporary files, home and working folder lie below a folder that is searched.
pub(crate) struct Watch {
    child: Child,
    dir: PathBuf,
    written: BTreeSet<PathBuf>,
    nameless: BTreeMap<PathBuf, Vec<u8>>,
    out: PathBuf,
    err: PathBuf,
}

impl Watch {
    /// Starts the command; `dir` is the folder of the project.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Self {
        let (tmp, said) = (dir.join("tmp"), dir.with_extension("said"));
        fs::create_dir_all(&tmp).unwrap();
        fs::create_dir_all(&said).unwrap();
        let (out, err) = (said.join("out"), said.join("err"));
        let child = command
            .env("TMPDIR", &tmp)
            .env("HOME", &tmp)
            .env("RUST_BACKTRACE", "full")
            .current_dir(&tmp)
            .stdout(Stdio::from(File::create(&out).unwrap()))
            .stderr(Stdio::from(File::create(&err).unwrap()))
            .spawn()
            .unwrap();
        Self { child, dir: dir.to_owned(), written: BTreeSet::new(), nameless: BTreeMap::new(), out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
    }

    /// Looks until the process has ended.
    pub(crate) async fn end(mut self) -> Watched {
        let code = loop {
            self.look();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            tokio::time::sleep(EVERY).await;
        };
        let said = |path: &Path| fs::read(path).unwrap();
        let (stdout, stderr) = (said(&self.out), said(&self.err));
        fs::remove_dir_all(self.out.parent().unwrap()).unwrap();
        let (written, nameless) = (std::mem::take(&mut self.written), std::mem::take(&mut self.nameless));
        Watched { code, stdout, stderr, written, nameless }
    }

    /// One look at the files that are open now; those that are closed meanwhile are passed over.
    pub(crate) fn look(&mut self) {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let Ok(open) = fs::read_dir(process.join("fd")) else { return };
        for link in open.flatten().map(|entry| entry.path()) {
            let (Ok(path), Some(number)) = (fs::read_link(&link), link.file_name()) else { continue };
            let Ok(information) = fs::read_to_string(process.join("fdinfo").join(number)) else { continue };
            let is_file = path.starts_with("/") && !["/dev", "/proc", "/sys"].iter().any(|top| path.starts_with(top));
            if !is_file || !is_written(&information) || [&self.out, &self.err].contains(&&path) {
                continue;
            }
            let has_no_name = path.to_string_lossy().ends_with(" (deleted)");
            if (has_no_name || !path.starts_with(&self.dir))
                && let Ok(bytes) = fs::read(&link)
            {
                self.nameless.insert(path.clone(), bytes);
            }
            self.written.insert(path);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Nothing may outlive a failed test; a process that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the flags of an open file (octal, as in `open(2)`) allow writing.
fn is_written(information: &str) -> bool {
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}
