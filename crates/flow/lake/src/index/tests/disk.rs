//! A disk in memory on which the n-th change fails, or is cut in two, and every change after it fails too.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::index::disk::{Dir, Disk, DiskFile};

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Clone, Default)]
pub(super) struct MemoryDisk {
    files: Arc<Mutex<HashMap<String, Bytes>>>,
    fault: Arc<Mutex<Fault>>,
    /// Bytes that were read or written.
    traffic: Arc<AtomicU64>,
    cold: Arc<Mutex<Cold>>,
}

/// What is not in the memory of a machine whose disk is slow; nothing, before [`MemoryDisk::chill`].
#[derive(Default)]
struct Cold {
    /// The pages that are, once not all are.
    near: Option<HashSet<u64>>,
    /// Reads that had to wait, and pages that were asked for ahead.
    waits: u64,
    asked: u64,
}

const PAGE: usize = 4096;

#[derive(Default)]
struct Fault {
    changes: u64,
    /// The change that does not happen.
    fails_at: Option<u64>,
    /// Whether that change, when it is a write, leaves its first half.
    torn: bool,
    /// Whether the disk is whole again after that change.
    once: bool,
}

struct MemoryFile {
    bytes: Bytes,
    fault: Arc<Mutex<Fault>>,
    traffic: Arc<AtomicU64>,
    cold: Arc<Mutex<Cold>>,
}

enum Verdict {
    Done,
    Torn,
    Failed,
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Fault {
    fn judge(&mut self) -> Verdict {
        self.changes += 1;
        match self.fails_at {
            Some(at) if self.changes == at && self.torn => Verdict::Torn,
            Some(at) if self.changes == at || (self.changes > at && !self.once) => Verdict::Failed,
            _ => Verdict::Done,
        }
    }
}

fn judge(fault: &Mutex<Fault>) -> io::Result<()> {
    match fault.lock().unwrap().judge() {
        Verdict::Done => Ok(()),
        Verdict::Torn | Verdict::Failed => Err(full()),
    }
}

impl MemoryDisk {
    pub(super) fn dir(&self) -> Dir {
        Dir::new(Arc::new(self.clone()), Path::new("memory"))
    }

    /// From now on: the change `at` (from 1) and all after it fail.
    pub(super) fn fail_from(&self, at: u64, torn: bool) {
        *self.fault.lock().unwrap() = Fault { changes: 0, fails_at: Some(at), torn, once: false };
    }

    /// From now on: the change `at` (from 1) fails, no other.
    pub(super) fn fail_once(&self, at: u64) {
        *self.fault.lock().unwrap() = Fault { changes: 0, fails_at: Some(at), torn: false, once: true };
    }

    /// No more faults; tells whether the one that was asked for has come.
    pub(super) fn heal(&self) -> bool {
        let fault = std::mem::take(&mut *self.fault.lock().unwrap());
        fault.fails_at.is_some_and(|at| fault.changes >= at)
    }

    /// A copy that shares nothing.
    pub(super) fn fork(&self) -> Self {
        let files = self.files.lock().unwrap();
        let copy = |(name, bytes): (&String, &Bytes)| {
            let bytes = bytes.lock().unwrap().clone();
            (name.clone(), Arc::new(Mutex::new(bytes)))
        };
        Self { files: Arc::new(Mutex::new(files.iter().map(copy).collect())), ..Self::default() }
    }

    /// Bytes that were read or written since the last call.
    pub(super) fn traffic(&self) -> u64 {
        self.traffic.swap(0, Ordering::Relaxed)
    }

    /// From now on reads wait for the medium, but for what was read or asked for before.
    pub(super) fn chill(&self) {
        *self.cold.lock().unwrap() = Cold { near: Some(HashSet::new()), ..Cold::default() };
    }

    /// Reads that had to wait since the disk was chilled, and pages that were asked for ahead.
    pub(super) fn waited(&self) -> (u64, u64) {
        let cold = self.cold.lock().unwrap();
        (cold.waits, cold.asked)
    }

    fn file(&self, bytes: &Bytes) -> Box<dyn DiskFile> {
        let (fault, traffic, cold) = (self.fault.clone(), self.traffic.clone(), self.cold.clone());
        Box::new(MemoryFile { bytes: bytes.clone(), fault, traffic, cold })
    }

    pub(super) fn with_bytes<T>(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(&mut self.files.lock().unwrap()[name].lock().unwrap())
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.files.lock().unwrap().keys().cloned().collect();
        names.sort();
        names
    }
}

fn pages(offset: u64, bytes: usize) -> RangeInclusive<u64> {
    offset / PAGE as u64..=(offset + bytes as u64 - 1) / PAGE as u64
}

impl DiskFile for MemoryFile {
    fn read_at_once(&self, into: &mut [u8], offset: u64) -> io::Result<bool> {
        let mut cold = self.cold.lock().unwrap();
        if cold.near.as_ref().is_some_and(|near| pages(offset, into.len()).any(|page| !near.contains(&page))) {
            cold.waits += 1;
            return Ok(false);
        }
        drop(cold);
        self.read_at(into, offset).map(|()| true)
    }

    fn expect(&self, offset: u64, bytes: usize) {
        let mut cold = self.cold.lock().unwrap();
        cold.asked += pages(offset, bytes).count() as u64;
        cold.near.iter_mut().for_each(|near| near.extend(pages(offset, bytes)));
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let mut cold = self.cold.lock().unwrap();
        cold.near.iter_mut().for_each(|near| near.extend(pages(offset, into.len())));
        drop(cold);
        self.traffic.fetch_add(into.len() as u64, Ordering::Relaxed);
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(offset as usize..offset as usize + into.len());
        into.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        let verdict = self.fault.lock().unwrap().judge();
        let (part, result) = match verdict {
            Verdict::Done => (from, Ok(())),
            Verdict::Torn => (&from[..from.len() / 2], Err(full())),
            Verdict::Failed => return Err(full()),
        };
        self.traffic.fetch_add(part.len() as u64, Ordering::Relaxed);
        let mut bytes = self.bytes.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + part.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(part);
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        judge(&self.fault)?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        judge(&self.fault)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        Ok(self.files.lock().unwrap().get(name).map(|bytes| self.file(bytes)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        judge(&self.fault)?;
        let bytes = Bytes::default();
        // Emptying keeps the file that is there, for whoever has it open.
        let bytes = self.files.lock().unwrap().entry(name.to_owned()).or_insert(bytes).clone();
        bytes.lock().unwrap().clear();
        Ok(self.file(&bytes))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        judge(&self.fault)?;
        let mut files = self.files.lock().unwrap();
        let bytes = files.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        judge(&self.fault)?;
        self.files.lock().unwrap().remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        judge(&self.fault)
    }
}
