//! Which elements of an X12 document pass, each by its own rule: ready-made maps and a policy's own lines.

use std::collections::BTreeMap;
use std::fmt;

use crate::policy::Rule;

/// A place in an X12 document: `CLM.02`, `NM1*IL.09`, `NM1*IL/N4.03`, `SV1.01-2`, `CAS.*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct X12Path {
    /// `NM1*IL/N4`: the loop where one is named, the segment, its qualifier where one is named.
    pub(crate) scope: String,
    /// The element's number, from 1; 0 for every element.
    pub(crate) element: u8,
    /// The component's number, from 1; 0 for an element that has none.
    pub(crate) component: u8,
}

impl X12Path {
    /// Reads `[LOOP/]SEGMENT[*QUALIFIER].ELEMENT[-COMPONENT]`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no place in an X12 document");
        let (scope, place) = text.rsplit_once('.').ok_or_else(wrong)?;
        let segment = scope.rsplit('/').next().unwrap_or_default();
        let id = segment.split('*').next().unwrap_or_default();
        if ENVELOPE.contains(&id) {
            return Err(format!("`{text}` is of the envelope, which is always made anew"));
        }
        let parts: Vec<&str> = scope.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_segment(part)) {
            return Err(wrong());
        }
        if let [parent, _] = parts.as_slice()
            && !opens_loop(parent.split('*').next().unwrap_or_default())
        {
            return Err(format!("`{parent}` begins no loop"));
        }
        let (element, component) = place.split_once('-').unwrap_or((place, "0"));
        let number = |text: &str| text.parse::<u8>().ok().filter(|n| (1..=99).contains(n) && text.len() <= 2);
        let element = if element == "*" { 0 } else { number(element).ok_or_else(wrong)? };
        let component = if component == "0" { 0 } else { number(component).ok_or_else(wrong)? };
        Ok(Self { scope: scope.to_owned(), element, component })
    }
}

/// `NM1`, `NM1*IL`.
fn is_segment(text: &str) -> bool {
    let legal = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    let (id, qualifier) = text.split_once('*').unwrap_or((text, "X"));
    id.len() > 1 && legal(id, 3) && legal(qualifier, 3)
}

impl fmt::Display for X12Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            0 => write!(f, "{}.*", self.scope)?,
            element => write!(f, "{}.{element:02}", self.scope)?,
        }
        match self.component {
            0 => Ok(()),
            component => write!(f, "-{component}"),
        }
    }
}

/// Segments that hold a document together.
const ENVELOPE: [&str; 6] = ["ISA", "GS", "ST", "SE", "GE", "IEA"];

/// Whether the segments behind a segment are about what it names, until the next one of these.
pub(crate) fn opens_loop(id: &str) -> bool {
    matches!(id, "HL" | "NM1" | "N1" | "CLM" | "SBR" | "LX" | "CLP" | "SVC" | "INS" | "HD" | "COB")
}

/// A map that comes with the program. What one of them lets through never changes: another map gets another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadyMap {
    /// Professional and institutional claims.
    Claim,
    /// Professional claims.
    ProfessionalClaim,
    /// Institutional claims.
    InstitutionalClaim,
    /// Payments.
    Payment,
    /// Enrolments.
    Enrolment,
}

impl ReadyMap {
    pub(crate) const ALL: [ReadyMap; 5] = [
        ReadyMap::Claim,
        ReadyMap::ProfessionalClaim,
        ReadyMap::InstitutionalClaim,
        ReadyMap::Payment,
        ReadyMap::Enrolment,
    ];

    /// The name as a policy spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ReadyMap::Claim => "837",
            ReadyMap::ProfessionalClaim => "837p",
            ReadyMap::InstitutionalClaim => "837i",
            ReadyMap::Payment => "835",
            ReadyMap::Enrolment => "834",
        }
    }

    /// Whether the map is for this transaction set, of this implementation guide (`005010X222A1`).
    pub(crate) fn is_for(self, set: &str, guide: &str) -> bool {
        let of = |guides: &[&str]| guides.iter().any(|known| guide.contains(known));
        match self {
            ReadyMap::Claim => set == "837" && of(&["X222", "X223", "X096", "X098"]),
            ReadyMap::ProfessionalClaim => set == "837" && of(&["X222", "X098"]),
            ReadyMap::InstitutionalClaim => set == "837" && of(&["X223", "X096"]),
            ReadyMap::Payment => set == "835",
            ReadyMap::Enrolment => set == "834",
        }
    }

    /// A document about nobody.
    pub(crate) fn sample(self) -> &'static str {
        match self {
            ReadyMap::Claim | ReadyMap::ProfessionalClaim => include_str!("../data/x12/sample-837p.x12"),
            ReadyMap::InstitutionalClaim => include_str!("../data/x12/sample-837i.x12"),
            ReadyMap::Payment => include_str!("../data/x12/sample-835.x12"),
            ReadyMap::Enrolment => include_str!("../data/x12/sample-834.x12"),
        }
    }

    /// GS01: what kind of sets a group has.
    pub(crate) fn functional_group(self) -> &'static str {
        match self {
            ReadyMap::Claim | ReadyMap::ProfessionalClaim | ReadyMap::InstitutionalClaim => "HC",
            ReadyMap::Payment => "HP",
            ReadyMap::Enrolment => "BE",
        }
    }

    /// Path, transform and class, line by line.
    pub(crate) fn lines(self) -> impl Iterator<Item = (&'static str, &'static str, Option<char>)> {
        let own = match self {
            ReadyMap::Claim | ReadyMap::ProfessionalClaim | ReadyMap::InstitutionalClaim => {
                include_str!("../data/x12/837.txt")
            }
            ReadyMap::Payment => include_str!("../data/x12/835.txt"),
            ReadyMap::Enrolment => include_str!("../data/x12/834.txt"),
        };
        let lines = include_str!("../data/x12/common.txt").lines().chain(own.lines());
        lines.filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?, words.next().and_then(|class| class.chars().next())))
        })
    }
}

/// The rules of [`crate::Transform::X12Map`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X12Map {
    pub(crate) ready: ReadyMap,
    /// What the policy says itself, which goes before the ready-made map.
    pub(crate) own: Vec<X12Path>,
    /// All rules, one for each place; those that drop say of which class a place is.
    pub(crate) rules: Vec<(X12Path, Rule)>,
}

impl X12Map {
    pub(crate) fn named(ready: ReadyMap) -> Self {
        Self { ready, own: Vec::new(), rules: Vec::new() }
    }

    /// The map, and the policy's own lines with what their rules mean.
    pub(crate) fn meaning(&self) -> String {
        let own = self.rules.iter().filter(|(path, _)| self.own.contains(path));
        own.fold(self.ready.name().to_owned(), |text, (path, rule)| format!("{text}, {path}={}", rule.meaning()))
    }
}

impl fmt::Display for X12Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ready.name())?;
        for (path, rule) in self.rules.iter().filter(|(path, _)| self.own.contains(path)) {
            write!(f, ", {path}={}", rule.transform)?;
        }
        Ok(())
    }
}

/// The places as they are looked up in a document.
pub(crate) struct Places {
    /// By scope, element and component; the number of the rule, `None` for one that drops.
    places: BTreeMap<String, BTreeMap<(u8, u8), Option<usize>>>,
}

impl Places {
    /// `kept` tells which rules let something through.
    pub(crate) fn of<'a>(paths: impl Iterator<Item = (&'a X12Path, Option<usize>)>) -> Self {
        let mut places: BTreeMap<String, BTreeMap<(u8, u8), Option<usize>>> = BTreeMap::new();
        for (path, rule) in paths {
            places.entry(path.scope.clone()).or_default().insert((path.element, path.component), rule);
        }
        Self { places }
    }

    /// The rules of one segment: those of its loop and qualifier first, then of its loop, of its qualifier, and of its kind.
    pub(crate) fn of_segment(&self, parent: &str, id: &str, qualifier: &str) -> SegmentPlaces<'_> {
        let scopes = [
            format!("{parent}/{id}*{qualifier}"),
            format!("{parent}/{id}"),
            format!("{id}*{qualifier}"),
            id.to_owned(),
        ];
        SegmentPlaces(scopes.iter().filter_map(|scope| self.places.get(scope)).collect())
    }
}

/// The rules of one segment, the most special first.
pub(crate) struct SegmentPlaces<'a>(Vec<&'a BTreeMap<(u8, u8), Option<usize>>>);

impl SegmentPlaces<'_> {
    /// The rule of an element or component; `None` when nothing of it passes.
    pub(crate) fn rule(&self, element: usize, component: u8) -> Option<usize> {
        let element = u8::try_from(element).ok()?;
        let of = |places: &&BTreeMap<(u8, u8), Option<usize>>| {
            places.get(&(element, component)).or_else(|| places.get(&(0, component))).copied()
        };
        self.0.iter().find_map(of).flatten()
    }

    /// Whether nothing of the segment passes.
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.iter().any(|places| places.values().any(Option::is_some))
    }
}

/// What the standard wants of a segment's elements: each of the first is there, and of a pair both or none.
pub(crate) fn wanted(id: &str) -> (&'static [usize], &'static [(usize, usize)]) {
    match id {
        "NM1" => (&[1, 2], &[(8, 9)]),
        "N1" => (&[1], &[(3, 4)]),
        "PER" => (&[1, 3], &[(3, 4), (5, 6), (7, 8)]),
        "DMG" => (&[1], &[(1, 2)]),
        "PRV" => (&[1], &[(2, 3)]),
        "PAT" => (&[], &[(5, 6), (7, 8)]),
        "INS" => (&[1, 2], &[(11, 12)]),
        "REF" | "DTM" | "AMT" | "QTY" | "TRN" | "LQ" | "N2" => (&[1, 2], &[]),
        "DTP" | "CAS" | "CRC" => (&[1, 2, 3], &[]),
        "PLB" => (&[1, 2, 3, 4], &[]),
        "LIN" => (&[2, 3], &[]),
        "SVC" | "SVD" => (&[1, 2], &[]),
        "N4" => (&[], &[]),
        _ => (&[1], &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spelling;

    #[test]
    fn paths_are_read_and_spelt_again() {
        for text in
            ["CLM.02", "NM1*IL.09", "NM1*IL/N4.03", "SV1.01-2", "CAS.*", "HI.*-4", "HL*22/PAT.06", "INS/REF*0F.02"]
        {
            assert_eq!(X12Path::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "CLM",
            "CLM.",
            "CLM.00",
            "CLM.100",
            "clm.02",
            "CLM.2-x",
            "A/B/C.01",
            "N4/N3.01",
            "C.01",
            "NM1*.01",
            "NM1*LONG.1",
            "CLM.02-",
        ] {
            assert!(X12Path::parse(text).is_err(), "{text}");
        }
        assert!(X12Path::parse("ISA.06").unwrap_err().contains("envelope"));
    }

    #[test]
    fn every_line_of_the_ready_made_maps_is_right() {
        for map in ReadyMap::ALL {
            let mut seen = std::collections::BTreeSet::new();
            for (path, transform, class) in map.lines() {
                let parsed = X12Path::parse(path).unwrap();
                assert_eq!(parsed.to_string(), path);
                assert!(seen.insert(path), "{}: {path} twice", map.name());
                let transform = spelling::parse(transform).unwrap();
                assert!(class.is_none_or(|class| class.is_ascii_uppercase()));
                assert!(transform != crate::Transform::Keep || class.is_none(), "{path} is of a class and kept");
            }
        }
    }
}
