use std::fmt::{Display, Write};

/// One row as text, column by column; used again for every row.
#[derive(Debug, Default)]
pub(super) struct Row {
    text: String,
    // Where each column ends, and whether it is null.
    ends: Vec<(usize, bool)>,
}

impl Row {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Appends a column.
    pub(super) fn push(&mut self, value: impl Display) {
        // Writing to a String cannot fail.
        let _written = write!(self.text, "{value}");
        self.ends.push((self.text.len(), false));
    }

    /// Appends a column of money, given in cents.
    pub(super) fn cents(&mut self, cents: u64) {
        self.push(format_args!("{}.{:02}", cents / 100, cents % 100));
    }

    /// Appends a column that may be null.
    pub(super) fn maybe(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.push(value),
            None => self.ends.push((self.text.len(), true)),
        }
    }

    fn columns(&self) -> impl Iterator<Item = Option<&str>> {
        let mut start = 0;
        self.ends.iter().map(move |(end, null)| {
            let value = &self.text[start..*end];
            start = *end;
            (!null).then_some(value)
        })
    }

    /// Appends the row in the text format of COPY.
    pub(super) fn copy_text(&self, out: &mut Vec<u8>) {
        for (i, column) in self.columns().enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            match column {
                None => out.extend_from_slice(b"\\N"),
                Some(value) => value.bytes().for_each(|byte| match byte {
                    b'\n' => out.extend_from_slice(b"\\n"),
                    b'\t' => out.extend_from_slice(b"\\t"),
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    other => out.push(other),
                }),
            }
        }
        out.push(b'\n');
    }

    /// Appends the row as one entry of a VALUES list.
    pub(super) fn sql(&self, out: &mut String) {
        for (i, column) in self.columns().enumerate() {
            out.push(if i == 0 { '(' } else { ',' });
            match column {
                None => out.push_str("NULL"),
                Some(value) => {
                    out.push('\'');
                    out.push_str(&value.replace('\'', "''"));
                    out.push('\'');
                }
            }
        }
        out.push(')');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_escape_what_they_must() {
        let mut row = Row::default();
        row.push("a\tb\\c\nd'e");
        row.maybe(None::<u8>);
        row.cents(1005);
        let mut copied = Vec::new();
        row.copy_text(&mut copied);
        assert_eq!(copied, b"a\\tb\\\\c\\nd'e\t\\N\t10.05\n");
        let mut sql = String::new();
        row.sql(&mut sql);
        assert_eq!(sql, "('a\tb\\c\nd''e',NULL,'10.05')");
    }
}
