//! The disk is full, under the lake and under the local state.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::project::Project;
use super::ledger::{Writer, ledger};
use super::patience::until;
use super::process::Process;

const ACCOUNTS: u32 = 5000;

/// A small disk of its own; it goes with the test.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// `None`, and said, where this account may not mount.
    pub(crate) fn mount(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: a full disk: only root may mount a small one");
        None
    }

    /// Fills it up to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.0.join("ballast")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(7), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, as a process of a failed test may still look into it.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A run meets a full disk, says so, and goes on by itself when there is room.
async fn fills_up(name: &str, folder: &str) {
    let project: Project = ledger(name, ACCOUNTS).await;
    let Some(disk) = Disk::mount(&project.dir.join(folder), 48) else { return };
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut running = Process::start(&project);
    project.wait_for("SELECT count(*) > 4900 FROM db.public.account", "true").await;
    disk.fill();
    until("the full disk is said", 60, async || running.said().contains("No space left on device")).await;
    assert!(!running.has_ended(), "{}", running.said());
    disk.free();
    project.assert_followed(writer, running).await;
    // The folder cannot be removed while a disk is mounted on it.
    drop(disk);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_a_full_disk_under_the_lake_is_said_and_survived() {
    fills_up("full-lake", "lake").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_a_full_disk_under_the_local_state_is_said_and_survived() {
    fills_up("full-state", ".lockgate").await;
}
