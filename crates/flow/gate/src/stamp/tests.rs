use super::*;

fn stamp(rules: &[(&str, &str)]) -> TableStamp {
    TableStamp {
        policy: PolicyStamp {
            profile: Profile::None,
            policy_hash: String::new(),
            key_epoch: Some(1),
            key_fingerprint: Some("a".into()),
            key_fingerprints: BTreeMap::new(),
            vault: Some("v".into()),
            cells: Some("c".into()),
            zip3_table: String::new(),
        },
        processed_in: Some(2026),
        rules: rules.iter().map(|(column, rule)| ((*column).to_owned(), (*rule).to_owned())).collect(),
        epochs: BTreeMap::new(),
        numbers: BTreeMap::new(),
        shifted_times: BTreeSet::new(),
    }
}

#[test]
fn a_column_does_not_come_under_the_rule_of_another_whose_name_it_has_taken() {
    let numbered = |columns: &[(&str, &str, i64)]| {
        let rules: Vec<_> = columns.iter().map(|(name, rule, _)| (*name, *rule)).collect();
        let numbers = columns.iter().map(|(name, _, number)| ((*name).to_owned(), *number)).collect();
        TableStamp { numbers, ..stamp(&rules) }
    };
    let before = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("plan", "keep", 3), ("x", "drop", 4)]);
    // Renamed over a column that left, and swapped.
    let taken = numbered(&[("id", "keep", 1), ("plan", "keep", 2)]);
    let swapped = numbered(&[("id", "keep", 1), ("ssn", "drop", 3), ("plan", "keep", 2)]);
    // Under a name that the policy had already and the source had not, and one whose values would stay behind.
    let named = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("plan", "keep", 3), ("y", "keep", 4)]);
    let left = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("y", "drop", 3)]);
    for now in [taken, swapped, named, left] {
        let error = now.after(&before).unwrap_err();
        assert!(error.kind() == Kind::Contract && error.what().contains("is called"), "{error}");
    }
    // Nothing of it is stored; a column that left and came again; another table of that name.
    let harmless = numbered(&[("id", "keep", 1), ("y", "drop", 2), ("plan", "keep", 9)]).after(&before).unwrap();
    assert_eq!(harmless.numbers["plan"], 9);
    assert_eq!(harmless.numbers["ssn"], 2, "what left is remembered");
    assert!(numbered(&[("id", "keep", 101), ("plan", "keep", 102)]).after(&before).is_ok());
    assert!(before.clone().after(&stamp(&[("id", "keep")])).is_ok(), "a stamp of a release before numbers");
}

#[test]
fn the_rule_of_a_stored_column_cannot_change() {
    let before = stamp(&[("id", "keep"), ("ssn", "hmac_token(a)"), ("note", "drop")]);
    assert_eq!(before.clone().after(&before).unwrap(), before);
    for changed in [("id", "drop"), ("id", "hmac_token(id)"), ("ssn", "hmac_token(b)"), ("ssn", "keep")] {
        let error = stamp(&[changed]).after(&before).unwrap_err();
        assert_eq!(error.kind(), Kind::Privacy);
        assert!(error.what().contains(changed.0) && error.what().contains(changed.1), "{error}");
    }
}

#[test]
fn a_column_may_begin_to_be_stored_and_one_that_left_keeps_its_rule() {
    let before = stamp(&[("id", "keep"), ("note", "drop"), ("gone", "hmac_token(a)")]);
    let now = stamp(&[("id", "keep"), ("note", "redact([NOTE])"), ("new", "keep")]).after(&before).unwrap();
    assert_eq!(now.rules["gone"], "hmac_token(a)");
    assert!(stamp(&[("gone", "keep")]).after(&now).is_err());
    assert_eq!(now.rules["note"], "redact([NOTE])");
}

/// After a rotation: the current epoch is 2, and the file still has the key of epoch 1.
fn rotated(rules: &[(&str, &str)], epochs: &[(&str, u32)]) -> TableStamp {
    let mut stamp = stamp(rules);
    (stamp.policy.key_epoch, stamp.policy.key_fingerprint) = (Some(2), Some("b".into()));
    stamp.policy.key_fingerprints = [("1".to_owned(), "a".to_owned()), ("2".to_owned(), "b".to_owned())].into();
    stamp.epochs = epochs.iter().map(|(place, epoch)| ((*place).to_owned(), *epoch)).collect();
    stamp
}

#[test]
fn two_epochs_never_stand_in_one_column() {
    let rules = [("id", "hmac_token(a)"), ("doc", "json_paths(x.y=hmac_token(a))"), ("v", "keep"), ("gone", "drop")];
    let now = |epoch| rotated(&rules, &[("id", epoch), ("doc.x.y", epoch), ("gone", 2)]);
    let with = |epoch| TableStamp { epochs: now(epoch).epochs, ..stamp(&rules) };
    // One of a release that did not write epochs, and one that did.
    for before in [stamp(&rules), with(1)] {
        let error = now(2).after(&before).unwrap_err();
        assert!(error.what().contains("under key epoch 1") && error.what().contains("under epoch 2"), "{error}");
        assert!(error.how_to_fix().unwrap().contains("lockgate remask"));
        assert_eq!(now(1).after(&before).unwrap().epochs["doc.x.y"], 1, "pinned");
        assert_eq!(before.epochs_stored()[&1], ["doc", "id"]);
    }
    // A table in which no key made anything goes on.
    assert!(rotated(&rules[2..], &[("gone", 2)]).after(&stamp(&rules[2..])).is_ok());
    // Back to an older key file, and to one that lacks an epoch.
    let older = TableStamp { epochs: with(1).epochs, ..stamp(&rules) };
    assert!(
        older.clone().after(&now(2)).unwrap_err().what().contains("of key epoch 2, which the key file does not have")
    );
    let mut lacks = now(2);
    lacks.policy.key_fingerprints.remove("1");
    assert!(lacks.after(&older).unwrap_err().what().contains("of key epoch 1, which the key file does not have"));
    let mut other = now(1);
    other.policy.key_fingerprints.insert("1".into(), "c".into());
    assert!(other.after(&older).unwrap_err().what().contains("the key of epoch 1 is not the one"));
}

#[test]
fn a_column_beside_another_comes_and_goes_by_remasking_alone() {
    let plain = rotated(&[("id", "hmac_token(a)")], &[("id", 2)]);
    let rules = [("id", "hmac_token(a)"), ("id__epoch1", "hmac_token(a)")];
    let dual = rotated(&rules, &[("id", 2), ("id__epoch1", 1)]);
    assert!(dual.clone().after(&plain).unwrap_err().what().contains("is not there yet"));
    assert!(plain.clone().after(&dual).unwrap_err().what().contains("no `dual` for it any more"));
    assert!(dual.clone().after(&dual).is_ok());
    let ended = TableStamp { rules: [("id__epoch1".to_owned(), "drop".to_owned())].into(), ..dual.clone() };
    assert!(plain.after(&ended).is_ok());
}

#[test]
fn another_key_or_vault_does_not_go_on() {
    let before = stamp(&[]);
    let mut other = before.clone();
    other.policy.key_fingerprint = Some("b".into());
    assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
    let mut other = before.clone();
    other.policy.vault = Some("w".into());
    assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
    let mut other = before.clone();
    other.policy.cells = Some("d".into());
    assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
}

#[test]
fn another_canonical_form_within_documents_is_another_rule() {
    for (name, paths) in
        [("json_paths", "a.b=hmac_token(m)FORM, c=keep"), ("x12_map", "837p, CLM.02=keep, NM1*IL.09=hmac_token(m)FORM")]
    {
        let of = |form: &str| stamp(&[("doc", &format!("{name}({}) by id", paths.replace("FORM", form)))]);
        let (older, exact, trim) = (of(""), of(" of exact.1"), of(" of trim.1"));
        for (before, now) in [(&exact, &trim), (&trim, &exact), (&trim, &older)] {
            assert_eq!(now.clone().after(before).unwrap_err().kind(), Kind::Privacy, "{name}");
        }
        // What an older release wrote goes on, and is told apart from then on.
        for now in [&exact, &trim] {
            assert_eq!(now.clone().after(&older).unwrap().rules, now.rules);
            assert_eq!(now.clone().after(now).unwrap(), *now);
        }
    }
    let column = |rule| stamp(&[("id", rule)]);
    assert!(column("hmac_token(m) of trim.1").after(&column("hmac_token(m)")).is_err());
}

#[test]
fn the_time_of_day_does_not_come_or_go_unseen() {
    let of = |profile, rule, times: &[&str]| {
        let mut stamp = stamp(&[("id", "keep"), ("seen", rule)]);
        stamp.policy.profile = profile;
        stamp.shifted_times = times.iter().map(|column| (*column).to_owned()).collect();
        stamp
    };
    let shift = "date_shift(p,30) by id";
    let (with, without) = (of(Profile::LimitedDataSet, shift, &["seen"]), of(Profile::Expert, shift, &["seen"]));
    let error = without.clone().after(&with).unwrap_err();
    assert!(error.kind() == Kind::Privacy && error.what().contains("`seen` is stored with the time of day"), "{error}");
    assert!(error.how_to_fix().unwrap().contains("lockgate remask"));
    let error = with.clone().after(&without).unwrap_err();
    assert!(error.what().contains("stored without the time of day"), "{error}");
    assert!(!error.how_to_fix().unwrap().contains("lockgate remask"));
    // An older release did not say which columns they are; one that left has no type any more.
    assert!(without.clone().after(&of(Profile::LimitedDataSet, shift, &[])).is_err());
    assert!(of(Profile::Expert, shift, &[]).after(&with).is_err());
    assert_eq!(of(Profile::Expert, shift, &[]).after(&without).unwrap().shifted_times, without.shifted_times);
    for (before, now) in [
        (with.clone(), with.clone()),
        (without.clone(), of(Profile::None, shift, &["seen"])),
        // Dates and texts have none, and what was not stored begins to be.
        (of(Profile::LimitedDataSet, shift, &[]), of(Profile::Expert, shift, &[])),
        (of(Profile::LimitedDataSet, "drop", &[]), without),
        (of(Profile::LimitedDataSet, "keep", &[]), of(Profile::Expert, "keep", &[])),
    ] {
        assert!(now.after(&before).is_ok());
    }
}
