//! Heads on their way to the anchor, and what the anchor knows better.

use super::*;

#[tokio::test]
async fn heads_that_an_anchor_missed_are_copied_later_also_by_another_process() {
    let place = Place::new("missed");
    let (log_folder, anchor) = (place.log(), place.0.dir.join("anchor"));
    let at = || async { Anchor::at(&anchor.to_string_lossy(), Vec::new()).await.unwrap() };
    std::fs::create_dir_all(&log_folder).unwrap();
    key::make(&place.key_file()).unwrap();
    let copies_at = |anchor| Copies::of(&log_folder, anchor, place.key()).unwrap();
    let copies = copies_at(at().await);
    let moment = |second: u64| Moment { at: START + second as i64 * 1_000_000, monotonic: Duration::from_secs(second) };
    let secret = key::read(&place.key_file()).unwrap();
    let mut log = Log::open(&log_folder, secret, moment(0), opener(&place.0, Program::Run).unwrap()).unwrap();
    for minute in 1..150 {
        log.append(moment(minute * 60), Event::Heartbeat {}).unwrap().expect("a head is due");
    }

    // Where its folder should be there is something else.
    let blocked = anchor.join("lockgate-audit");
    std::fs::create_dir_all(&anchor).unwrap();
    std::fs::write(&blocked, "").unwrap();
    copies.send().await.unwrap_err();
    std::fs::remove_file(&blocked).unwrap();
    assert!(!copies.send().await.unwrap(), "there are more than are copied at a time");
    assert_eq!(objects(&anchor).len(), 65, "the newest one is among the first");
    let (head, line) = Heads::of(&log_folder).newest(&place.key()).unwrap().unwrap();
    let newest = at().await.from(&log.id(), head.nth, &log.public_key()).await.unwrap();
    assert_eq!(newest, [(head, line)]);

    let next = copies_at(at().await);
    next.ask(log.id(), |head| panic!("it lacks head {head}")).await.unwrap();
    while !next.send().await.unwrap() {}
    assert_eq!(objects(&anchor).len(), 150);
    // Where the mark is gone, all are copied once more, each under its name.
    std::fs::remove_file(log_folder.join("anchored.json")).unwrap();
    let anew = copies_at(at().await);
    log.append(moment(9000), Event::Heartbeat {}).unwrap();
    while !anew.send().await.unwrap() {}
    assert_eq!(objects(&anchor).len(), 151);
}

#[tokio::test]
async fn a_log_that_was_set_back_says_for_good_what_its_anchor_has() {
    let (place, clock) = (Place::with_anchor("set-back"), RuntimeClock::begun());
    place.act(&clock).await;
    let (log, kept) = (place.log(), place.0.dir.join("kept"));
    copy(&log, &kept);
    place.act(&clock).await;
    assert_eq!(proof(&[place.log()], clock.now()).findings, []);
    std::fs::remove_dir_all(&log).unwrap();
    copy(&kept, &log);
    place.act(&clock).await;
    place.act(&clock).await;
    // Without the anchor, even.
    let found = proof(&[place.log()], clock.now()).findings;
    let known = |finding: &Finding| {
        matches!(finding, Finding::HeadsMissing { known: HeadsKnown::Anchor, head: 3, left: 2, .. })
    };
    assert!(found.len() == 1 && known(&found[0]), "{found:?}");
}

/// An open log of a project with an anchor, each of whose heads is copied at once.
struct Running {
    auditor: Arc<Auditor>,
    clock: Arc<dyn Clock>,
}

impl Running {
    async fn of(place: &Place, clock: &Arc<dyn Clock>) -> Self {
        let auditor = Auditor::open(&place.0, clock.clone(), Program::Run).await.unwrap();
        Self { auditor, clock: clock.clone() }
    }

    fn sign(&self) {
        self.auditor.record(Event::KeysShown {}).unwrap();
        self.auditor.log().sign_now(Moment::of(&*self.clock)).unwrap();
    }

    async fn send(&self) {
        while !self.auditor.copy_heads().await.unwrap() {}
    }
}

#[tokio::test]
async fn heads_that_are_cut_off_under_a_run_do_not_end_the_copies() {
    let (place, clock) = (Place::with_anchor("cut"), RuntimeClock::begun());
    let running = Running::of(&place, &clock).await;
    for _ in 0..6 {
        running.sign();
        running.send().await;
    }
    let heads = place.log().join(HEADS_FILE);
    let text = std::fs::read_to_string(&heads).unwrap();
    for left in [1, 3, 5] {
        let first: Vec<&str> = text.lines().take(left).collect();
        std::fs::write(&heads, first.join("\n") + "\n").unwrap();
        // As many heads once more: some end where another one had ended.
        for _ in left..7 {
            running.sign();
            running.send().await;
            let kept = kept(&place.anchor());
            let missing = signed(&place.log()).into_iter().filter(|head| !kept.contains(head)).count();
            assert_eq!(missing, 0, "{left} heads were left");
        }
    }
    running.auditor.close().await.unwrap();
}

#[tokio::test]
async fn what_the_key_has_not_signed_does_not_get_to_the_anchor() {
    let (place, clock) = (Place::with_anchor("unsigned"), RuntimeClock::begun());
    let running = Running::of(&place, &clock).await;
    running.sign();
    running.send().await;
    let heads = place.log().join(HEADS_FILE);
    let honest = std::fs::read_to_string(&heads).unwrap();
    let last = honest.lines().last().unwrap();
    let forged: String =
        (0..100).map(|number| last.replace(r#""nth":2"#, &format!(r#""nth":{}"#, 9 + number)) + "\n").collect();
    assert!(!forged.contains(last));
    std::fs::write(&heads, honest.clone() + &forged).unwrap();
    running.send().await;
    let honest: Vec<&str> = honest.lines().collect();
    let kept = kept(&place.anchor());
    assert!(kept.len() == 2 && kept.iter().all(|head| honest.contains(&head.as_str())), "{} heads", kept.len());
}

/// A command signs another head, which gets to the anchor, and then the log is put back to what it was before.
async fn set_back(place: &Place, clock: &Arc<dyn Clock>) {
    let (log, before) = (place.log(), place.0.dir.join("before"));
    copy(&log, &before);
    place.act(clock).await;
    std::fs::remove_dir_all(&log).unwrap();
    copy(&before, &log);
}

#[tokio::test]
async fn forged_names_at_the_anchor_do_not_hide_what_it_has() {
    let (place, clock) = (Place::with_anchor("hidden"), RuntimeClock::begun());
    place.act(&clock).await;
    set_back(&place, &clock).await;
    let folder = objects(&place.anchor())[0].parent().unwrap().to_owned();
    for number in 0..40 {
        for name in [
            format!("0000000002-00000000000{}-{number:016}.json", number % 10),
            format!("9999999999-000000000000-{number:016}.json"),
        ] {
            std::fs::write(folder.join(name), "{}").unwrap();
        }
    }
    place.act(&clock).await;
    assert!(place.text().contains(r#""event":"heads_missing","known":"anchor","head":3"#), "{}", place.text());
}

/// The disk is full, or the anchor cannot be listed, at the moment at which it would be written down.
#[tokio::test]
async fn what_the_anchor_has_is_written_down_however_late() {
    let (place, clock) = (Place::with_anchor("late"), RuntimeClock::begun());
    place.act(&clock).await;
    set_back(&place, &clock).await;
    let running = Running::of(&place, &clock).await;
    // Heads get there before the anchor was asked.
    for _ in 0..4 {
        running.sign();
        running.auditor.copies.as_ref().unwrap().send().await.unwrap();
    }
    let (file, away) = (place.log().join(LOG_FILE), place.log().join("away"));
    std::fs::rename(&file, &away).unwrap();
    running.auditor.copy_heads().await.unwrap_err();
    let refused = tokio::time::timeout(Duration::from_secs(1), running.auditor.refused()).await;
    refused.expect("what the log cannot take ends the run");
    std::fs::rename(&away, &file).unwrap();
    running.send().await;
    assert_eq!(place.text().matches("heads_missing").count(), 1, "{}", place.text());
    running.auditor.close().await.unwrap();
    place.act(&clock).await;
    assert_eq!(place.text().matches("heads_missing").count(), 1, "it is said once");
}

#[tokio::test]
async fn the_next_process_asks_for_what_the_one_before_could_not() {
    let (place, clock) = (Place::with_anchor("next"), RuntimeClock::begun());
    place.act(&clock).await;
    set_back(&place, &clock).await;
    let running = Running::of(&place, &clock).await;
    for _ in 0..4 {
        running.sign();
        running.auditor.copies.as_ref().unwrap().send().await.unwrap();
    }
    drop(running);
    place.act(&clock).await;
    assert_eq!(place.text().matches("heads_missing").count(), 1, "{}", place.text());
}

/// Where the anchor's folder should be there is something else.
fn block(place: &Place) -> PathBuf {
    let blocked = place.anchor().join("lockgate-audit");
    std::fs::create_dir_all(place.anchor()).unwrap();
    std::fs::write(&blocked, "").unwrap();
    blocked
}

#[tokio::test]
async fn heads_of_a_first_command_whose_anchor_was_away_get_there_later() {
    let (place, clock) = (Place::with_anchor("away"), RuntimeClock::begun());
    let blocked = block(&place);
    let auditor = Auditor::open(&place.0, clock.clone(), Program::Keys).await.unwrap();
    auditor.close().await.unwrap_err();
    std::fs::remove_file(blocked).unwrap();
    place.act(&clock).await;
    assert_eq!(kept(&place.anchor()), signed(&place.log()));
    // So do those of a log that begins while another one is set aside, and the last ones of that.
    let renewed = renew(&place.0, Because::KeyExposed, clock.clone()).await.unwrap();
    place.act(&clock).await;
    let mut all = [signed(&renewed.aside.unwrap()), signed(&place.log())].concat();
    all.sort();
    assert_eq!(kept(&place.anchor()), all);
}

#[tokio::test]
async fn an_anchor_that_takes_the_place_of_another_gets_what_comes_from_here_on() {
    let (mut place, clock) = (Place::with_anchor("moved"), RuntimeClock::begun());
    place.act(&clock).await;
    let before = signed(&place.log()).len();
    place.0.file.audit.anchor = Some("./other".into());
    let other = place.0.dir.join("other");
    std::fs::write(&other, "").unwrap();
    drop(Auditor::open(&place.0, clock.clone(), Program::Keys).await);
    std::fs::remove_file(&other).unwrap();
    let blocked = Auditor::open(&place.0, clock.clone(), Program::Keys).await.unwrap();
    drop(blocked);
    place.act(&clock).await;
    let all = signed(&place.log());
    assert_eq!(kept(&other).len(), all.len() - before);
}
