use super::*;

const NOW: Timestamp = 1_795_289_405_123_456;

fn random(step: u8, first: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(std::array::from_fn(|index| index as u8 * step + first))
}

fn text() -> Zeroizing<String> {
    KeyRing::generate("test", random(1, 0)).unwrap()
}

fn rotated() -> Zeroizing<String> {
    KeyRing::rotated(&text(), &random(3, 5), NOW, false).unwrap()
}

/// Fingerprints computed by another implementation (Python's hmac and hashlib).
#[test]
fn a_rotation_adds_an_epoch_that_wraps_the_one_before() {
    let ring = KeyRing::parse(&rotated()).unwrap();
    assert_eq!((ring.current_epoch(), ring.beginning(), ring.chain(2)), (2, 1, vec![1, 2]));
    let epochs = ring.epochs().unwrap();
    assert_eq!(epochs[0].fingerprint, "8b224b441936a8e7");
    assert_eq!(epochs[1].fingerprint, "0101a1fb35d76ab3");
    assert_eq!((epochs[0].created.as_deref(), epochs[0].current), (None, false));
    assert_eq!(epochs[1].created.as_deref(), Some("2026-11-21T19:30:05Z"));
    assert_eq!((epochs[1].wraps, epochs[1].current), (Some(1), true));
    let third = KeyRing::rotated(&rotated(), &random(7, 1), NOW, true).unwrap();
    let ring = KeyRing::parse(&third).unwrap();
    assert_eq!(ring.fingerprint().unwrap(), "20f9e63c765b40b0");
    let at = Some("2026-11-21T19:30:05Z");
    assert_eq!([1, 2, 3].map(|epoch| ring.compromised(epoch)), [at, at, None], "who has the file has every key in it");
    assert!(third.starts_with(text().lines().next().unwrap()), "comments stay");
}

/// A file of a release without rotations may hold epochs that wrap none.
#[test]
fn an_epoch_that_wraps_none_keeps_its_tokens() {
    let plain = rotated().replace("wraps 2 1\n", "").replace("created 2 2026-11-21T19:30:05Z\n", "");
    let ring = KeyRing::parse(&plain).unwrap();
    assert_eq!((ring.chain(2), ring.fingerprint().unwrap()), (vec![2], "89d0cc04b06e4764".into()));
}

#[test]
fn a_retired_key_leaves_its_fingerprint_and_no_digit() {
    let retired = KeyRing::retired(&rotated(), 1, NOW).unwrap();
    assert!(!retired.contains("0405060708"));
    let ring = KeyRing::parse(&retired).unwrap();
    assert_eq!(ring.fingerprint().unwrap(), "0101a1fb35d76ab3", "the lake's stamps still fit");
    assert_eq!(ring.epochs().unwrap()[0].retired.as_deref(), Some("2026-11-21T19:30:05Z"));
    assert!(ring.derive(Purpose::Token, "member", 1).unwrap_err().what().contains("no key for epoch 1"));
    for (epoch, expected) in [(1, "no key for epoch 1"), (2, "is the current one"), (7, "no key for epoch 7")] {
        assert!(KeyRing::retired(&retired, epoch, NOW).unwrap_err().what().contains(expected));
    }
    let next = KeyRing::rotated(&retired, &random(7, 1), NOW, false).unwrap();
    assert_eq!(KeyRing::parse(&next).unwrap().current_epoch(), 3, "no number comes again");
}

#[test]
fn lines_that_contradict_each_other_are_refused() {
    let good = rotated();
    let second = good.lines().find(|line| line.starts_with("epoch 2")).unwrap();
    let first = good.lines().find(|line| line.starts_with("epoch 1")).unwrap();
    let broken = [
        (good.replace("current 2", "current 1"), "epoch 2 wraps it already"),
        (good.replace(&format!("{first}\n"), ""), "epoch 1 is missing"),
        (good.replace("wraps 2 1", "wraps 1 2"), "which is not an older one"),
        (good.replace("wraps 2 1", "wraps 2 2"), "which is not an older one"),
        (good.replace("wraps 2 1", "wraps 2 1\nwraps 2 1"), "twice"),
        (good.replace("wraps 2 1", "wraps 2 0"), "epoch 0 is missing"),
        (good.replace("wraps 2 1", "wraps two 1"), "not a number"),
        (good.replace("wraps 2 1", "wraps 2"), "the line is not understood"),
        (good.replace(second, &second.replace("05080b", "05080c")), "the key is damaged"),
        (good.replace("2026-11-21T19:30:05Z", "yesterday"), "the time is not spelt"),
        (format!("{}compromised 2 2026-11-21T19:30:05Z\n", &*good), "the current epoch 2 is compromised"),
        (format!("{}retired 1 2026-11-21T19:30:05Z 8b224b441936a8e7\n", &*good), "is retired, and its key is there"),
        (format!("{}retired 9 2026-11-21T19:30:05Z secret\n", &*good), "the line is not understood"),
        (format!("{}created 9 2026-11-21T19:30:05Z\n", &*good), "epoch 9 is named and has no key"),
    ];
    for (text, expected) in broken {
        let Err(error) = KeyRing::parse(&text) else { panic!("accepted, but expected: {expected}") };
        assert!(error.what().contains(expected), "{error} lacks {expected}");
        assert!(!error.to_string().contains("0405") && !error.to_string().contains("0b0e"), "{error}");
    }
    let fork = KeyRing::rotated(&rotated(), &random(7, 1), NOW, false).unwrap().replace("wraps 3 2", "wraps 3 1");
    assert!(KeyRing::parse(&fork).err().unwrap().what().contains("two epochs wrap epoch 1"));
}
