//! Files that people write: policy, project, keys; and records that only a key opens.

use std::sync::Arc;

use change::{Problem, StoppedClock};
use gate::{KeyRing, Policy};
use zeroize::Zeroizing;

use crate::project::{PROJECT_FILE, ProjectFile};

/// 2026-11-21T00:00:00Z, for ever.
const NOW: StoppedClock = StoppedClock(1_795_219_200_000_000);

/// `policy.yaml`. What is taken can be explained, compared and shown on made-up values; what is refused says why and on which line.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text, "policy.yaml") {
        Ok(policy) => {
            assert!(policy.changes_to(&policy).is_empty(), "a policy differs from itself");
            assert_eq!(policy.explain().policy_hash.len(), 64);
            policy.rehearse(Arc::new(NOW)).unwrap();
        }
        Err(problems) => explained(text, &problems),
    }
}

/// `lockgate.yaml`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ProjectFile::parse(text) {
        Ok(file) => {
            assert!(!file.lake.is_empty() && !file.sources.is_empty(), "{PROJECT_FILE} is taken without its parts")
        }
        Err(problems) => explained(text, &problems),
    }
}

/// The key file: a key that is read can be used, and no error repeats a digit of one.
pub fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match KeyRing::parse(text) {
        Ok(keys) => {
            assert_eq!(keys.fingerprint().unwrap().len(), 16);
            let sealed = keys.sealer("fuzz").seal([1; 16], b"here", b"plain").unwrap();
            assert_eq!(&**keys.sealer("fuzz").open(b"here", &sealed).unwrap(), b"plain");
            let random = Zeroizing::new(std::array::from_fn(|at| at as u8 * 5 + 2));
            // Refused when there is no higher number.
            let Ok(rotated) = KeyRing::rotated(text, &random, 0, false) else { return };
            let rotated = KeyRing::parse(&rotated).unwrap();
            assert_eq!(rotated.fingerprint_of(keys.current_epoch()).unwrap(), keys.fingerprint().unwrap());
            assert_eq!(&**rotated.sealer("fuzz").open(b"here", &sealed).unwrap(), b"plain");
        }
        Err(error) => {
            let said = error.to_string();
            let secret = |word: &&str| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(!text.split_whitespace().filter(secret).any(|word| said.contains(word)), "an error repeats a key");
        }
    }
}

/// A sealed record: bytes that were not sealed with the key never open, and what was sealed opens as it was, and only whole.
pub fn sealed(bytes: &[u8]) {
    let text = KeyRing::generate("fuzz", Zeroizing::new(std::array::from_fn(|at| at as u8 * 3 + 1))).unwrap();
    let keys = KeyRing::parse(&text).unwrap();
    let sealer = keys.sealer("fuzz");
    assert!(sealer.open(b"here", bytes).is_err(), "made-up bytes open");
    let mut record = sealer.seal([2; 16], b"here", bytes).unwrap();
    assert!(**sealer.open(b"here", &record).unwrap() == *bytes, "a record opens as another");
    assert!(sealer.open(b"there", &record).is_err(), "a record opens elsewhere");
    let at = bytes.first().map_or(0, |first| usize::from(*first)) % record.len();
    record[at] ^= 1;
    assert!(sealer.open(b"here", &record).is_err(), "a damaged record opens");
}

/// Every problem has words, and a line that the file has.
fn explained(text: &str, problems: &[Problem]) {
    assert!(!problems.is_empty(), "refused without a reason");
    let lines = text.split(['\n', '\r']).count() as u64 + 1;
    for problem in problems {
        assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "a problem without words");
        assert!(problem.line.is_none_or(|line| line <= lines), "line {:?} of {lines}", problem.line);
    }
}
