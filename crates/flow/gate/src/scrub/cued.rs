//! Identifiers that only the words before them tell: D5 record, account, claim and member numbers, D17 devices, D19 licences, D6 pagers.

use super::identifier::{Chain, is_routing};
use super::token::{Gap, Kind, Text};
use super::word::Word;
use super::{Hits, Label};

/// So far behind its cue an identifier may stand, in words.
const WORDS_MAX: usize = 5;

struct Cue {
    label: Label,
    /// The fewest letters and digits that are an identifier behind this cue.
    shortest: usize,
}

pub(super) fn find(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if !text.at(at).word.is(Word::CUE) {
        return;
    }
    let Some(cue) = cue(text, at) else { return };
    let (mut next, mut words) = (at + 1, 0);
    while words <= WORDS_MAX {
        let token = text.at(next);
        let new_line = token.gap == Gap::Line && !matches!(text.before(next).mark, b':' | b'#');
        match token.kind {
            Kind::End | Kind::Placeholder => return,
            _ if new_line || token.word.is(Word::CODE) => return,
            Kind::Mark if matches!(token.mark, b';' | b'$') || ends_sentence(text, next) => return,
            Kind::Mark => {}
            Kind::Word if starts_identifier(text, next) => {}
            // Between a cue and its number stand no other cues: they have their own.
            Kind::Word => words += 1,
            Kind::Number | Kind::Mixed => {}
        }
        if matches!(token.kind, Kind::Number | Kind::Mixed)
            || (token.kind == Kind::Word && starts_identifier(text, next))
        {
            let found = identifier(text, next, &cue)
                .or_else(|| if cue.label == Label::Phone { groups(text, next) } else { None });
            if let Some(last) = found {
                hits.tokens(next, last, cue.label);
                return;
            }
            if token.kind != Kind::Word {
                words += 1;
            }
            next = Chain::from(text, next).last;
        }
        next += 1;
    }
}

/// A full stop that is not that of `no.`.
fn ends_sentence(text: &Text<'_>, at: usize) -> bool {
    let short = text.before(at).word.is(Word::CUE) || text.is_any(at.wrapping_sub(1), &["no", "nr", "num"]);
    text.is_mark(at, b'.') && text.at(at + 1).gap != Gap::None && !short
}

/// What comes behind the word.
fn cue(text: &Text<'_>, at: usize) -> Option<Cue> {
    let is = |words: &[&str]| text.is_any(at, words);
    let of = |label, shortest| Some(Cue { label, shortest });
    if is(&["mrn", "mr", "chart", "record", "csn", "har", "fin"]) {
        return of(Label::Mrn, if is(&["mrn", "csn", "har", "fin"]) { 4 } else { 5 });
    }
    if is(&["ssn", "social", "security", "itin", "tin", "ein"]) {
        return of(Label::Ssn, 4);
    }
    if is(&[
        "policy",
        "member",
        "subscriber",
        "medicaid",
        "medicare",
        "beneficiary",
        "insurance",
        "hicn",
        "mbi",
        "group",
    ]) {
        return of(Label::HealthPlan, 5);
    }
    if is(&["license", "licence"]) && text.is_any(at + 1, &["plate", "tag"]) {
        return None;
    }
    if is(&["license", "licence", "lic", "dl", "passport", "dea", "certificate"]) {
        return of(Label::Licence, 5);
    }
    if is(&["npi"]) {
        return of(Label::Npi, 10);
    }
    if is(&["account", "acct", "routing", "aba", "iban", "card", "invoice"]) {
        return of(Label::Account, 4);
    }
    if is(&["plate", "tag", "vin"]) {
        return of(Label::Vehicle, 5);
    }
    if is(&["serial", "sn", "imei", "udi"]) {
        return of(Label::Device, 4);
    }
    if is(&["lot"]) {
        let implanted = (at.saturating_sub(12)..at + 12).any(|near| {
            text.is_any(
                near,
                &["implant", "implanted", "device", "stent", "pacemaker", "prosthesis", "mesh", "serial", "graft"],
            )
        });
        return implanted.then_some(Cue { label: Label::Device, shortest: 4 });
    }
    if is(&["pager", "beeper", "ext", "extension"]) {
        return of(Label::Phone, 3);
    }
    if text.at(at).word.is(Word::CALL) {
        return of(Label::Phone, 7);
    }
    of(Label::Id, 5)
}

/// A phone number of another country: groups of two to four digits, 7 to 15 in all.
fn groups(text: &Text<'_>, first: usize) -> Option<usize> {
    let (mut at, mut last, mut count) = (first, first, 0);
    while at < first + 10 && (at == first || text.at(at).gap != Gap::Line) {
        match text.digits(at) {
            digits @ 1..=4 if at > first || digits >= 2 => (count, last) = (count + digits, at),
            0 if at > first && matches!(text.at(at).mark, b'-' | b'.' | b'/' | b'(' | b')') => {}
            _ => break,
        }
        at += 1;
    }
    ((7..=15).contains(&count) && last > first && !text.unit_follows(last)).then_some(last)
}

/// Letters that run on into digits: `AB-12345`.
fn starts_identifier(text: &Text<'_>, at: usize) -> bool {
    text.touches(at + 1)
        && matches!(text.at(at + 1).mark, b'-' | b'_')
        && text.touches(at + 2)
        && matches!(text.at(at + 2).kind, Kind::Number | Kind::Mixed)
}

/// The last token of the identifier that begins here, if it is one.
fn identifier(text: &Text<'_>, first: usize, cue: &Cue) -> Option<usize> {
    let chain = Chain::from(text, first);
    let mut room = [0; 64];
    let squeezed = chain.squeeze(text, &mut room);
    let digits = squeezed.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits < squeezed.len().div_ceil(4) || squeezed.len() < cue.shortest || text.unit_follows(chain.last) {
        return None;
    }
    let slashes = (first..=chain.last).any(|at| text.is_mark(at, b'/'));
    let decimal = chain.last == first + 2 && text.is_mark(first + 1, b'.');
    if slashes || decimal || text.is_mark(first.wrapping_sub(1), b'$') {
        return None;
    }
    if cue.label == Label::Phone && (digits != squeezed.len() || digits > 15) {
        return None;
    }
    if text.is_any(first.wrapping_sub(2), &["aba", "routing"]) && !is_routing(squeezed) {
        return None;
    }
    // A year is no identifier.
    let year = squeezed.len() == 4 && digits == 4 && (b"19" == &squeezed[..2] || b"20" == &squeezed[..2]);
    (!year || matches!(cue.label, Label::Ssn | Label::Phone)).then_some(chain.last)
}
