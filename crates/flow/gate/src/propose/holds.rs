/// What a source's type holds, as far as proposals care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Whole numbers and decimals.
    Number,
    /// Floating point, which has no token.
    Float,
    /// Text; how many characters the type allows, when it says so.
    Text { characters: Option<usize> },
    /// Days and points in time.
    Date,
    /// Times of day and durations.
    Clock,
    /// Yes or no.
    Flag,
    /// Any array.
    Array,
    /// JSON, XML, pairs of key and value.
    Document,
    /// Bytes.
    Binary,
    /// Enumerations, domains, row types, and what is rare.
    Other,
}

impl Holds {
    /// Reads the type as the source prints it: `character varying(20)`.
    pub(super) fn of(source_type: &str) -> Self {
        let printed = source_type.trim().to_ascii_lowercase();
        if printed.ends_with(']') {
            return Holds::Array;
        }
        let (name, rest) = printed.split_once('(').unwrap_or((&printed, ""));
        let length = rest.split(')').next().and_then(|length| length.trim().parse().ok());
        match name.trim() {
            "smallint" | "integer" | "bigint" | "numeric" | "decimal" | "int2" | "int4" | "int8" | "int" => {
                Holds::Number
            }
            "real" | "double precision" | "float4" | "float8" => Holds::Float,
            "text" | "character varying" | "varchar" | "bpchar" | "citext" | "uuid" => {
                Holds::Text { characters: length }
            }
            // Without a length it is one character long.
            "character" | "char" => Holds::Text { characters: length.or(Some(1)) },
            "date" => Holds::Date,
            "boolean" | "bool" => Holds::Flag,
            "json" | "jsonb" | "xml" | "hstore" => Holds::Document,
            "bytea" => Holds::Binary,
            name if name.starts_with("timestamp") => Holds::Date,
            name if name == "time" || name.starts_with("time with") || name.starts_with("interval") => Holds::Clock,
            _ => Holds::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_the_source_prints_them() {
        let cases = [
            ("bigint", Holds::Number),
            ("numeric(12,2)", Holds::Number),
            ("double precision", Holds::Float),
            ("text", Holds::Text { characters: None }),
            ("character varying", Holds::Text { characters: None }),
            ("character varying(20)", Holds::Text { characters: Some(20) }),
            ("character(2)", Holds::Text { characters: Some(2) }),
            ("character", Holds::Text { characters: Some(1) }),
            ("date", Holds::Date),
            ("timestamp(3) without time zone", Holds::Date),
            ("timestamp with time zone", Holds::Date),
            ("time without time zone", Holds::Clock),
            ("time(3) with time zone", Holds::Clock),
            ("interval", Holds::Clock),
            ("interval year to month", Holds::Clock),
            ("boolean", Holds::Flag),
            ("character varying(20)[]", Holds::Array),
            ("integer[]", Holds::Array),
            ("jsonb", Holds::Document),
            ("bytea", Holds::Binary),
            ("claim_status", Holds::Other),
            ("inet", Holds::Other),
            ("", Holds::Other),
        ];
        for (source_type, expected) in cases {
            assert_eq!(Holds::of(source_type), expected, "{source_type}");
        }
    }
}
