//! The rules of `x12_map`: a ready-made map, and before it what the policy says itself.

use super::{OnInvalid, Reader, Rule};
use crate::Transform;
use crate::canonical::Form;
use crate::class::Declared;
use crate::spelling;
use crate::x12_map::X12Path;
use crate::yaml::Node;

impl Reader {
    /// The policy's own lines. Unlike in a JSON document, one of them may say `drop`: the ready-made map may let the place through.
    pub(super) fn x12_paths(&mut self, node: &Node, rule: &Rule) -> Option<Vec<(X12Path, Rule)>> {
        let mut own = Vec::new();
        for entry in self.map(node, "`paths`") {
            let path = match X12Path::parse(&entry.key) {
                Ok(path) => path,
                Err(what) => {
                    let fix =
                        "Write [LOOP/]SEGMENT[*QUALIFIER].ELEMENT[-COMPONENT]: NM1*IL.09, NM1*IL/N4.03, SV1.01-2.";
                    self.report.error(entry.line, what, fix);
                    return None;
                }
            };
            let mut inner = self.inner(entry, rule)?;
            inner.column = path.to_string();
            own.push((path, inner));
        }
        Some(own)
    }
}

/// The class that a ready-made map gives a place: the line for its qualifier, else for its kind of segment.
fn class_of(path: &X12Path, lines: &[(X12Path, Transform, Option<Declared>)]) -> Option<Declared> {
    let segment = path.scope.rsplit('/').next().unwrap_or_default();
    let kind = segment.split('*').next().unwrap_or_default();
    [path.scope.as_str(), segment, kind].iter().find_map(|scope| {
        let place = |(line, _, _): &&(X12Path, Transform, Option<Declared>)| {
            line.scope == *scope && [0, path.element].contains(&line.element) && line.component == path.component
        };
        lines.iter().find(place).map(|(_, _, class)| *class)
    })?
}

/// Puts the lines of the ready-made map behind the policy's own. A place keeps the class that the map gives it, unless the policy declares
/// another; what the map keeps is vouched for by whoever vouches for the column.
pub(super) fn expand(rule: &mut Rule, own: Vec<(X12Path, Rule)>) {
    let Transform::X12Map { map } = &rule.transform else { return };
    let mut map = map.clone();
    map.own = own.iter().map(|(path, _)| path.clone()).collect();
    map.rules = own;
    // A test reads every line of every map.
    let lines = map.ready.lines().filter_map(|(path, transform, class)| {
        let class = class.and_then(|class| Declared::parse(&class.to_string()));
        Some((X12Path::parse(path).ok()?, spelling::parse(transform).ok()?, class))
    });
    let lines: Vec<(X12Path, Transform, Option<Declared>)> = lines.collect();
    for (path, own) in &mut map.rules {
        own.class = own.class.or_else(|| class_of(path, &lines));
    }
    for (path, transform, class) in lines {
        if map.own.contains(&path) {
            continue;
        }
        let inner = Rule {
            column: path.to_string(),
            within: Some(rule.column.clone()),
            line: rule.line,
            transform,
            on_invalid: OnInvalid::Null,
            form: Form::Exact,
            subject: None,
            pin: None,
            dual: None,
            null_as: None,
            class,
            reason: rule.reason.clone(),
            reviewer: rule.reviewer.clone(),
        };
        map.rules.push((path, inner));
    }
    rule.transform = Transform::X12Map { map };
}
