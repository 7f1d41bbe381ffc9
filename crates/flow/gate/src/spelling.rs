//! Reads a transform as a policy spells it: `keep`, `hmac_token(member)`, `bucket(0,18,40,65)`.

use crate::Transform;
use crate::report::did_you_mean;

/// What is wrong with a spelling and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misspelt {
    pub(crate) what: String,
    pub(crate) fix: String,
}

/// Every transform's name with an example of its spelling.
const SPELLINGS: [(&str, &str); 2] = [("keep", "keep"), ("drop", "drop")];

/// Reads one spelling.
pub(crate) fn parse(text: &str) -> Result<Transform, Misspelt> {
    let text = text.trim();
    let (name, arguments) = match text.split_once('(') {
        None => (text, Vec::new()),
        Some((name, rest)) => {
            let Some(inside) = rest.strip_suffix(')') else {
                return Err(Misspelt {
                    what: format!("`{text}` lacks its closing bracket"),
                    fix: format!("Write `{text})`."),
                });
            };
            (name.trim_end(), inside.split(',').map(str::trim).collect())
        }
    };
    let Some((_, example)) = SPELLINGS.iter().find(|(known, _)| *known == name) else {
        return Err(unknown(name));
    };
    build(name, &arguments).map_err(|what| Misspelt { what, fix: format!("Write it like `{example}`.") })
}

fn unknown(name: &str) -> Misspelt {
    let names = SPELLINGS.iter().map(|(name, _)| *name);
    let fix = match did_you_mean(name, names.clone()) {
        Some(meant) => format!("Did you mean `{meant}`?"),
        None => format!("Use one of {}.", names.collect::<Vec<_>>().join(", ")),
    };
    Misspelt { what: format!("there is no transform `{name}`"), fix }
}

fn build(name: &str, arguments: &[&str]) -> Result<Transform, String> {
    let plain = |transform| match arguments {
        [] => Ok(transform),
        _ => Err(format!("`{name}` takes no argument")),
    };
    match name {
        "keep" => plain(Transform::Keep),
        _ => plain(Transform::Drop),
    }
}
