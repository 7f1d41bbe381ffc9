//! What is forgiven for now: an allow-list that may only shrink.

use std::collections::BTreeMap;
use std::fs;

use crate::sources::root;

const FILE: &str = "xtask/tests/house/ratchet.txt";

/// What each thing may measure at most beyond the rule: `<rule> <thing> <limit>` a line, `#` for comments.
pub(crate) struct Ratchet(BTreeMap<(String, String), usize>);

impl Ratchet {
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string(root().join(FILE)).unwrap())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entry = |line: &str| {
            let [rule, thing, limit] = line.split_whitespace().collect::<Vec<_>>().try_into().expect(line);
            ((rule.to_owned(), thing.to_owned()), limit.parse().expect(line))
        };
        Self(lines.map(entry).collect())
    }

    /// Complaints about `measured` things of one `rule` whose normal limit is `normal`: too long, longer than forgiven, or forgiven for
    /// more than is needed, so that the list shrinks as the code does.
    pub(crate) fn complaints(&self, rule: &str, normal: usize, measured: &[(String, usize)]) -> Vec<String> {
        let mut complaints = Vec::new();
        for (thing, size) in measured {
            match self.0.get(&(rule.to_owned(), thing.clone())) {
                None if *size > normal => {
                    complaints.push(format!("{thing}: {size} lines, {normal} are allowed; split it"))
                }
                Some(limit) if size > limit => {
                    complaints.push(format!("{thing}: {size} lines, it had {limit} and may only shrink; split it"));
                }
                Some(limit) if size < limit && *size > normal => {
                    complaints.push(format!("{thing}: down to {size} lines; lower its limit of {limit} in {FILE}"));
                }
                Some(_) if *size <= normal => {
                    complaints.push(format!("{thing}: within the rule; remove it from {FILE}"))
                }
                _ => {}
            }
        }
        let gone = |thing: &String| !measured.iter().any(|(name, _)| name == thing);
        for ((_, thing), _) in self.0.iter().filter(|((of, thing), _)| of == rule && gone(thing)) {
            complaints.push(format!("{thing}: is gone; remove it from {FILE}"));
        }
        complaints
    }
}

#[test]
fn only_shrinks() {
    let ratchet = Ratchet::parse("# why\nfile a.rs 600\nfile b.rs 600\nfile c.rs 600\nfile gone.rs 600\n");
    let measured = [("a.rs", 600), ("b.rs", 601), ("c.rs", 500), ("d.rs", 501), ("e.rs", 500)];
    let measured = measured.map(|(thing, size)| (thing.to_owned(), size));
    let complaints = ratchet.complaints("file", 500, &measured);
    let about: Vec<&str> = complaints.iter().map(|complaint| &complaint[..complaint.find(':').unwrap()]).collect();
    assert_eq!(about, ["b.rs", "c.rs", "d.rs", "gone.rs"]);
}
