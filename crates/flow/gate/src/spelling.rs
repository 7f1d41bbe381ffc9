//! Reads a transform as a policy spells it: `keep`, `hmac_token(member)`, `bucket(0,18,40,65)`.

use crate::report::did_you_mean;
use crate::transform::{
    CodeLevel, CodeType, DateUnit, Edges, Format, JsonPaths, Quantity, SurrogateList, Tier, X12Map,
};
use crate::x12_map::ReadyMap;
use crate::{Profile, Transform};

/// What is wrong with a spelling and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misspelt {
    pub(crate) what: String,
    pub(crate) fix: String,
}

/// Every transform's name with an example of its spelling.
const SPELLINGS: [(&str, &str); 25] = [
    ("keep", "keep"),
    ("drop", "drop"),
    ("null_out", "null_out"),
    ("redact", "redact(NAME)"),
    ("mask_chars", "mask_chars(4)"),
    ("hmac_token", "hmac_token(member)"),
    ("siv_token", "siv_token(member)"),
    ("vault_code", "vault_code(member)"),
    ("fpe_ff1", "fpe_ff1(account,digits,12)"),
    ("dict_surrogate", "dict_surrogate(first_name,person)"),
    ("encrypt_cell", "encrypt_cell(person)"),
    ("date_year", "date_year"),
    ("date_trunc", "date_trunc(month)"),
    ("date_shift", "date_shift(person,365)"),
    ("age_cap", "age_cap"),
    ("dob_generalise", "dob_generalise"),
    ("zip3", "zip3"),
    ("geo_state", "geo_state"),
    ("bucket", "bucket(0,18,40,65)"),
    ("round", "round(100)"),
    ("top_code", "top_code(250000)"),
    ("hierarchy", "hierarchy(icd10,category)"),
    ("json_paths", "json_paths"),
    ("x12_map", "x12_map(837p)"),
    ("scrub_text", "scrub_text(detect,first_name+last_name)"),
];

/// The transforms that take several arguments.
const LISTS: [&str; 8] =
    ["bucket", "hmac_token", "vault_code", "fpe_ff1", "dict_surrogate", "date_shift", "hierarchy", "scrub_text"];

/// More shown characters than this are not a mask.
const SHOWN_MAX: u8 = 8;

/// A shift of more than a year says less of the season and no less of the person.
const SHIFT_DAYS_MAX: u16 = 365;

/// Longer names would make every token long.
const DOMAIN_CHARACTERS_MAX: usize = 32;

/// Reads one spelling.
pub(crate) fn parse(text: &str) -> Result<Transform, Misspelt> {
    let text = text.trim();
    let (name, arguments) = match text.split_once('(') {
        None => (text, Vec::new()),
        Some((name, rest)) => {
            let Some(inside) = rest.strip_suffix(')') else {
                let what = format!("`{text}` lacks its closing bracket");
                let fix = format!("Write `{text})`; between {{ }} put spaces for commas: `bucket(0 18 65)`.");
                return Err(Misspelt { what, fix });
            };
            // In a mapping between braces YAML takes a comma for itself.
            let by_spaces = LISTS.contains(&name.trim_end()) && !inside.contains(',');
            let arguments = match by_spaces {
                true => inside.split_whitespace().collect(),
                false => inside.split(',').map(str::trim).collect(),
            };
            (name.trim_end(), arguments)
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
        None if Profile::ALL.iter().any(|profile| profile.name() == name) => {
            "A profile is for the whole policy.".into()
        }
        None => format!("Use one of {}.", names.collect::<Vec<_>>().join(", ")),
    };
    Misspelt { what: format!("there is no transform `{name}`"), fix }
}

fn build(name: &str, arguments: &[&str]) -> Result<Transform, String> {
    let plain = |transform| match arguments {
        [] => Ok(transform),
        _ => Err(format!("`{name}` takes no argument")),
    };
    let one = || match arguments {
        [one] if !one.is_empty() => Ok(*one),
        _ => Err(format!("`{name}` takes one argument")),
    };
    match name {
        "keep" => plain(Transform::Keep),
        "drop" => plain(Transform::Drop),
        "null_out" => plain(Transform::NullOut),
        "redact" => Ok(Transform::Redact { marker: marker(one()?)? }),
        "mask_chars" => match one()?.parse() {
            Ok(shown) if shown <= SHOWN_MAX => Ok(Transform::MaskChars { shown }),
            _ => Err(format!("`mask_chars` shows 0 to {SHOWN_MAX} characters")),
        },
        "hmac_token" | "siv_token" | "vault_code" | "fpe_ff1" | "dict_surrogate" | "date_shift" | "encrypt_cell" => {
            keyed(name, arguments)
        }
        "round" => match Quantity::parse(one()?) {
            Some(step) if step.is_positive() => Ok(Transform::Round { step }),
            _ => Err("`round` takes a number above zero".into()),
        },
        "top_code" => match Quantity::parse(one()?) {
            Some(cap) => Ok(Transform::TopCode { cap }),
            None => Err("`top_code` takes a number".into()),
        },
        "hierarchy" => {
            let level = arguments.join(",");
            let level = CodeLevel::ALL.into_iter().find(|known| known.to_string() == level);
            level.map(|level| Transform::Hierarchy { level }).ok_or_else(|| {
                format!("`hierarchy` takes {}", CodeLevel::ALL.map(|level| format!("({level})")).join(" or "))
            })
        }
        "json_paths" => plain(Transform::JsonPaths { paths: JsonPaths::default() }),
        "x12_map" => {
            let name = one()?;
            let ready = ReadyMap::ALL.into_iter().find(|known| known.name() == name);
            ready
                .map(|ready| Transform::X12Map { map: X12Map::named(ready) })
                .ok_or_else(|| format!("`x12_map` takes {}", ReadyMap::ALL.map(ReadyMap::name).join(", ")))
        }
        "scrub_text" => scrub(arguments),
        "date_year" => plain(Transform::DateYear),
        "date_trunc" => {
            let unit = one()?;
            let unit = DateUnit::ALL.into_iter().find(|known| known.name() == unit);
            unit.map(|unit| Transform::DateTrunc { unit }).ok_or("`date_trunc` takes month, quarter or week".into())
        }
        "age_cap" => match arguments {
            [] => Ok(Transform::AgeCap { text: false }),
            ["text"] => Ok(Transform::AgeCap { text: true }),
            _ => Err("`age_cap` takes no argument, or text".into()),
        },
        "dob_generalise" => plain(Transform::DobGeneralise),
        "zip3" => plain(Transform::Zip3),
        "geo_state" => plain(Transform::GeoState),
        _ => Ok(Transform::Bucket { edges: Edges::parse(arguments)? }),
    }
}

/// The transforms that have a domain.
fn keyed(name: &str, arguments: &[&str]) -> Result<Transform, String> {
    let only = || match arguments {
        [only] if !only.is_empty() => domain(only),
        _ => Err(format!("`{name}` takes one argument")),
    };
    match name {
        "hmac_token" => match arguments {
            [name, "binary"] => Ok(Transform::HmacToken { domain: domain(name)?, code: CodeType::Binary }),
            [_, "int64"] => {
                Err("a token of 64 bits could be that of two values; `vault_code(member,int64)` cannot".into())
            }
            [_, _] => Err("`hmac_token` is text when nothing else is said, or binary".into()),
            _ => Ok(Transform::HmacToken { domain: only()?, code: CodeType::Text }),
        },
        "siv_token" => Ok(Transform::SivToken { domain: only()? }),
        "vault_code" => match arguments {
            [name, "binary"] => Ok(Transform::VaultCode { domain: domain(name)?, code: CodeType::Binary }),
            [name, "int64"] => Ok(Transform::VaultCode { domain: domain(name)?, code: CodeType::Int64 }),
            [_, _] => Err("`vault_code` is text when nothing else is said, binary or int64".into()),
            _ => Ok(Transform::VaultCode { domain: only()?, code: CodeType::Text }),
        },
        "encrypt_cell" => Ok(Transform::EncryptCell { domain: only()? }),
        "fpe_ff1" => match arguments {
            [name, format @ ..] => Ok(Transform::FpeFf1 { domain: domain(name)?, format: Format::parse(format)? }),
            [] => Err("`fpe_ff1` takes a domain and a format".into()),
        },
        "dict_surrogate" => match arguments {
            [list, name] => {
                let known = SurrogateList::ALL.into_iter().find(|known| known.name() == *list);
                let list = known.ok_or("the list is first_name, last_name, city or street")?;
                Ok(Transform::DictSurrogate { list, domain: domain(name)? })
            }
            _ => Err("`dict_surrogate` takes a list and a domain".into()),
        },
        _ => match arguments {
            [name, days] => match days.parse() {
                Ok(days_max) if (1..=SHIFT_DAYS_MAX).contains(&days_max) => {
                    Ok(Transform::DateShift { domain: domain(name)?, days_max })
                }
                _ => Err(format!("`date_shift` moves by at most 1 to {SHIFT_DAYS_MAX} days")),
            },
            _ => Err("`date_shift` takes a domain and the most days".into()),
        },
    }
}

/// A tier, and the columns whose values are searched in the text.
fn scrub(arguments: &[&str]) -> Result<Transform, String> {
    let (tier, known) = match arguments {
        [tier] => (tier, Vec::new()),
        [tier, known] => (tier, known.split('+').map(|column| column.trim().to_owned()).collect()),
        _ => return Err("`scrub_text` takes a tier and columns with + between them".into()),
    };
    let known_tier = Tier::ALL.into_iter().find(|known| known.name() == *tier);
    let tier = known_tier.ok_or("the tier is drop, allowlist, detect or detect+ner")?;
    if known.iter().any(String::is_empty) {
        return Err("between two + stands a column".into());
    }
    Ok(Transform::ScrubText { tier, known, model: None })
}

fn domain(name: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_right = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if starts_right && name.len() <= DOMAIN_CHARACTERS_MAX && name.bytes().all(legal) {
        Ok(name.into())
    } else {
        Err(format!("a domain is 1 to {DOMAIN_CHARACTERS_MAX} small letters, digits and _, a letter first"))
    }
}

fn marker(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if text.len() <= 32 && text.bytes().all(legal) {
        Ok(text.into())
    } else {
        Err("a marker is 1 to 32 capital letters, digits and _".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_read_and_spelt_again() {
        for (name, example) in SPELLINGS {
            let transform = parse(example).unwrap();
            assert_eq!(transform.to_string(), example);
            assert!(example.starts_with(name));
        }
        assert_eq!(parse(" bucket( 0.5 , 18 ) ").unwrap().to_string(), "bucket(0.5,18)");
        for example in ["hmac_token(a,binary)", "vault_code(a,binary)", "vault_code(a,int64)", "age_cap(text)"] {
            assert_eq!(parse(example).unwrap().to_string(), example);
            assert_eq!(parse(&example.replace(',', "  ")).unwrap().to_string(), example);
        }
        for name in LISTS {
            let (_, example) = SPELLINGS.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(parse(&example.replace(',', "  ")).unwrap().to_string(), *example);
        }
    }

    #[test]
    fn the_manual_names_every_transform_and_no_other() {
        let manual = include_str!("../../../../docs/guide/policy.md");
        let section = |title: &str| manual.split(title).nth(1).unwrap().split("\n##").next().unwrap().trim();
        let rows = |text: &'static str| text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let table = section("\n## Transforms\n").split("\n\n").find(|part| part.starts_with("| Write")).unwrap();
        let named: Vec<&str> = rows(table).map(|spelling| spelling.split('(').next().unwrap()).collect();
        for (name, _) in SPELLINGS {
            assert_eq!(named.iter().filter(|known| **known == name).count(), 1, "{name}");
        }
        assert_eq!(named.len(), SPELLINGS.len());
        let shapes: Vec<&str> = rows(section("\n### Shapes\n")).collect();
        assert_eq!(shapes.len(), 5);
        assert!(shapes.iter().all(|spelling| parse(spelling).is_ok_and(|shape| shape.to_string() == **spelling)));
    }

    #[test]
    fn a_wrong_spelling_says_how_it_is_right() {
        let cases = [
            ("hmac_tokn(member)", "there is no transform `hmac_tokn`", "Did you mean `hmac_token`?"),
            ("encrypt", "there is no transform `encrypt`", "Use one of keep, drop"),
            ("hmac_token", "`hmac_token` takes one argument", "hmac_token(member)"),
            ("hmac_token()", "`hmac_token` takes one argument", "hmac_token(member)"),
            ("hmac_token(Member.A)", "a domain is 1 to 32 small letters", "hmac_token(member)"),
            ("hmac_token(a,int64)", "could be that of two values", "hmac_token(member)"),
            ("hmac_token(a,bytes)", "or binary", "hmac_token(member)"),
            ("vault_code(a,int32)", "binary or int64", "vault_code(member)"),
            ("vault_code(a,b,c)", "takes one argument", "vault_code(member)"),
            ("age_cap(89)", "no argument, or text", "age_cap"),
            ("keep(1)", "`keep` takes no argument", "Write it like `keep`."),
            ("mask_chars(9)", "shows 0 to 8 characters", "mask_chars(4)"),
            ("date_trunc(day)", "month, quarter or week", "date_trunc(month)"),
            ("bucket(18,0)", "the borders must ascend", "bucket(0,18,40,65)"),
            ("bucket", "at least one border", "bucket(0,18,40,65)"),
            ("redact(a b)", "capital letters", "redact(NAME)"),
            ("zip3(", "closing bracket", "Write"),
            ("fpe_ff1(a,digits,5)", "fewer than a million values", "fpe_ff1(account,digits,12)"),
            ("fpe_ff1(a)", "the format is", "fpe_ff1(account,digits,12)"),
            ("fpe_ff1", "a domain and a format", "fpe_ff1(account,digits,12)"),
            ("date_shift(a,0)", "1 to 365 days", "date_shift(person,365)"),
            ("date_shift(a)", "the most days", "date_shift(person,365)"),
            ("dict_surrogate(name,a)", "first_name, last_name", "dict_surrogate(first_name,person)"),
            ("round(0)", "above zero", "round(100)"),
            ("top_code(much)", "takes a number", "top_code(250000)"),
            ("hierarchy(icd10)", "(icd10,category) or (icd10,chapter)", "hierarchy(icd10,category)"),
            ("json_paths(a)", "takes no argument", "json_paths"),
            ("x12_map", "`x12_map` takes one argument", "x12_map(837p)"),
            ("x12_map(270)", "takes 837, 837p, 837i, 835, 834", "x12_map(837p)"),
            ("scrub_text", "takes a tier and columns", "scrub_text(detect,first_name+last_name)"),
            ("scrub_text(all)", "the tier is drop, allowlist, detect or detect+ner", "scrub_text(detect"),
            ("scrub_text(detect,a++b)", "between two + stands a column", "scrub_text(detect"),
        ];
        for (text, what, fix) in cases {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.what.contains(what) && wrong.fix.contains(fix), "{text}: {wrong:?}");
        }
    }
}
