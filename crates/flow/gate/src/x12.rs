//! X12 text (ASC X12.5, X12.6): its delimiters, its envelopes, its segments. Nothing of it is believed: counts and control numbers must agree.

/// The characters that hold a document apart, as its ISA segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delimiters {
    pub(crate) element: char,
    pub(crate) component: char,
    /// From version 00402 on.
    pub(crate) repetition: Option<char>,
    pub(crate) segment: char,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) id: &'a str,
    pub(crate) elements: Vec<&'a str>,
}

/// ISA to IEA; without both for transaction sets that stand alone.
pub(crate) struct Interchange<'a> {
    pub(crate) delimiters: Delimiters,
    /// What stands behind each segment's end: nothing, or a line end.
    pub(crate) line_end: &'a str,
    pub(crate) isa: Option<Segment<'a>>,
    pub(crate) groups: Vec<Group<'a>>,
}

/// GS to GE.
pub(crate) struct Group<'a> {
    pub(crate) gs: Option<Segment<'a>>,
    pub(crate) sets: Vec<Set<'a>>,
}

/// ST to SE; the segments between them.
pub(crate) struct Set<'a> {
    pub(crate) st: Segment<'a>,
    pub(crate) body: Vec<Segment<'a>>,
}

/// Characters of an ISA segment: all of its elements have a fixed width.
const ISA: usize = 106;
/// Where its element separators stand.
const ISA_SEPARATORS: [usize; 16] = [3, 6, 17, 20, 31, 34, 50, 53, 69, 76, 81, 83, 89, 99, 101, 103];

impl<'a> Segment<'a> {
    fn read(text: &'a str, delimiters: &Delimiters) -> Option<Self> {
        let mut parts = text.split(delimiters.element);
        let id = parts.next()?;
        let legal = (2..=3).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        legal.then(|| Self { id, elements: parts.collect() })
    }

    /// An element by its number, from 1; empty when it is not there.
    pub(crate) fn element(&self, number: usize) -> &'a str {
        number.checked_sub(1).and_then(|at| self.elements.get(at)).copied().unwrap_or_default()
    }
}

/// Reads a document; `None` when its envelopes are not right.
pub(crate) fn read(text: &str) -> Option<Vec<Interchange<'_>>> {
    let mut rest = text.trim_start_matches('\u{feff}').trim();
    let mut interchanges = Vec::new();
    while !rest.is_empty() {
        let delimiters = if rest.starts_with("ISA") { of_isa(rest)? } else { of_set(rest)? };
        let (interchange, behind) = interchange(rest, delimiters)?;
        interchanges.push(interchange);
        rest = behind.trim_start();
    }
    (!interchanges.is_empty()).then_some(interchanges)
}

fn is_delimiter(character: char) -> bool {
    character.is_ascii() && !character.is_ascii_alphanumeric() && !matches!(character, ' ' | '\0' | '-' | '.')
}

fn apart(delimiters: Delimiters) -> Option<Delimiters> {
    let Delimiters { element, component, repetition, segment } = delimiters;
    let mut all = vec![element, component, segment];
    all.extend(repetition);
    let legal = all.iter().all(|one| is_delimiter(*one));
    all.sort_unstable();
    all.dedup();
    (legal && all.len() == 3 + usize::from(repetition.is_some())).then_some(delimiters)
}

fn of_isa(text: &str) -> Option<Delimiters> {
    let isa = text.get(..ISA).filter(|isa| isa.is_ascii())?.as_bytes();
    let element = isa[3];
    let at: Vec<usize> = (0..ISA - 1).filter(|at| isa[*at] == element).collect();
    if at != ISA_SEPARATORS {
        return None;
    }
    // Before 00402 the element was the identifier of standards, a letter.
    let repetition = char::from(isa[82]);
    let repetition = (!repetition.is_ascii_alphanumeric()).then_some(repetition);
    apart(Delimiters {
        element: char::from(element),
        component: char::from(isa[104]),
        repetition,
        segment: char::from(isa[105]),
    })
}

/// A transaction set that stands alone does not say its delimiters: those around ST's elements are seen, the others are the usual ones.
fn of_set(text: &str) -> Option<Delimiters> {
    let rest = text.strip_prefix("ST")?;
    let element = rest.chars().next()?;
    let segment = rest.chars().find(|one| *one != element && !one.is_ascii_alphanumeric())?;
    // A line end after a carriage return is white space between segments.
    apart(Delimiters { element, component: ':', repetition: Some('^'), segment })
}

/// One interchange, or the sets up to the next one, and the text behind.
fn interchange(text: &str, delimiters: Delimiters) -> Option<(Interchange<'_>, &str)> {
    let line_end = text.split_once(delimiters.segment).map_or("", |(_, behind)| {
        let end = behind.find(|c| c != '\r' && c != '\n').unwrap_or(behind.len());
        &behind[..end]
    });
    let mut segments = Segments { rest: text, delimiters };
    let mut found = Interchange { delimiters, line_end, isa: None, groups: Vec::new() };
    if !text.starts_with("ISA") {
        let mut group = Group { gs: None, sets: Vec::new() };
        while segments.starts_with("ST") {
            group.sets.push(segments.set()?);
        }
        found.groups.push(group);
        return (!segments.rest.starts_with(|c: char| c != 'I')).then_some((found, segments.rest));
    }
    let isa = segments.next()?;
    while segments.starts_with("GS") {
        let gs = segments.next()?;
        let mut group = Group { gs: None, sets: Vec::new() };
        while segments.starts_with("ST") {
            group.sets.push(segments.set()?);
        }
        let ge = segments.next().filter(|ge| ge.id == "GE")?;
        let agree = counted(ge.element(1), group.sets.len()) && same(ge.element(2), gs.element(6));
        if !agree || group.sets.is_empty() {
            return None;
        }
        group.gs = Some(gs);
        found.groups.push(group);
    }
    let iea = segments.next().filter(|iea| iea.id == "IEA")?;
    let agree = counted(iea.element(1), found.groups.len()) && same(iea.element(2), isa.element(13));
    found.isa = Some(isa);
    (agree && !found.groups.is_empty()).then_some((found, segments.rest))
}

struct Segments<'a> {
    rest: &'a str,
    delimiters: Delimiters,
}

impl<'a> Segments<'a> {
    fn starts_with(&self, id: &str) -> bool {
        self.rest.strip_prefix(id).is_some_and(|behind| behind.starts_with(self.delimiters.element))
    }

    fn next(&mut self) -> Option<Segment<'a>> {
        let (segment, rest) = self.rest.split_once(self.delimiters.segment)?;
        self.rest = rest.trim_start();
        Segment::read(segment.trim_end_matches(['\r', '\n']), &self.delimiters)
    }

    fn set(&mut self) -> Option<Set<'a>> {
        let st = self.next()?;
        let mut body = Vec::new();
        loop {
            let segment = self.next()?;
            match segment.id {
                "SE" => {
                    let agree = counted(segment.element(1), body.len() + 2) && same(segment.element(2), st.element(2));
                    return agree.then_some(Set { st, body });
                }
                "ISA" | "IEA" | "GS" | "GE" | "ST" => return None,
                _ => body.push(segment),
            }
        }
    }
}

fn counted(text: &str, count: usize) -> bool {
    text.len() <= 10 && text.parse::<usize>() == Ok(count)
}

fn same(trailer: &str, header: &str) -> bool {
    !header.is_empty() && trailer == header
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISA: &str =
        "ISA*00*          *00*          *ZZ*A              *ZZ*B              *131031*1147*^*00501*000000907*1*T*:~";

    fn whole(body: &str, count: usize) -> String {
        format!(
            "{ISA}\nGS*HC*A*B*20131031*1147*1*X*005010X222A1~\nST*837*0001*005010X222A1~\n{body}SE*{count}*0001~\nGE*1*1~\nIEA*1*000000907~\n"
        )
    }

    #[test]
    fn delimiters_are_read_and_not_believed() {
        let text = whole("BHT*0019*00*1*20050208*1112*CH~\n", 3);
        let read_ok = read(&text).unwrap();
        let one = &read_ok[0];
        assert_eq!((one.delimiters.component, one.delimiters.repetition, one.line_end), (':', Some('^'), "\n"));
        assert_eq!(one.groups[0].sets[0].body[0].element(4), "20050208");
        let other = text.replace('~', "'").replace('*', "|").replace(":'", "+'").replace('\n', "");
        let read_other = read(&other).unwrap();
        assert_eq!((read_other[0].delimiters.element, read_other[0].line_end), ('|', ""));
        assert_eq!(read(&format!("{text}{other}")).unwrap().len(), 2);
        let alone = read("ST*835*0001~\r\nLX*1~\r\nSE*3*0001~\r\n").unwrap();
        assert_eq!((alone[0].isa.is_none(), alone[0].line_end), (true, "\r\n"));
    }

    #[test]
    fn a_wrong_envelope_is_no_document() {
        let good = whole("LX*1~\n", 3);
        let wrong = [
            String::new(),
            "n/a".into(),
            "ISA".into(),
            good[3..].to_owned(),
            good[..good.len() - 20].to_owned(),
            good.replacen("ISA*00* ", "ISA*00*", 1),
            good.replace(":~", "*~"),
            good.replace(":~", "A~"),
            good.replace("SE*3", "SE*4"),
            good.replace("SE*3*0001", "SE*3*0002"),
            good.replace("GE*1*1", "GE*2*1"),
            good.replace("GE*1*1", "GE*1*2"),
            good.replace("IEA*1*000000907", "IEA*1*000000908"),
            good.replace("IEA*1*", "IEA*2*"),
            good.replace("LX*1~", "lx*1~"),
            good.replace("LX*1~", "ST*837*0002~"),
            format!("{good}JUNK~"),
            good.replace("ZZ*A ", "ZZ*\u{e9} "),
        ];
        assert!(read(&good).is_some());
        for text in wrong {
            assert!(read(&text).is_none(), "{text}");
        }
    }
}
