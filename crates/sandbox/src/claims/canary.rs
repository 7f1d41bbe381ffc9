use super::people::Person;

/// A raw value that was planted in one column and occurs nowhere else: if it turns up in a lake, the gate leaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Canary {
    /// The column in which it was planted first: `members.ssn`. It is copied to other tables as a real one would be.
    pub column: &'static str,
    /// The value, as text.
    pub value: String,
}

impl Canary {
    /// What to search for in bytes: the text, and for a number its eight bytes in the order of Arrow and Parquet.
    pub fn needles(&self) -> Vec<Vec<u8>> {
        let mut needles = vec![self.value.clone().into_bytes()];
        if let Ok(number) = self.value.parse::<i64>()
            && matches!(self.column, "members.member_id" | "claims.claim_id" | "claim_notes.note_id")
        {
            needles.push(number.to_le_bytes().to_vec());
        }
        if self.column == "members.ssn" {
            needles.push(self.value.replace('-', "").into_bytes());
        }
        needles
    }
}

/// So many members of the first load are watched: those with the lowest numbers, each of whom has the claim of the same number.
pub(super) const WATCHED: u64 = 12;

/// A word that belongs to one number and to nothing else in the data.
pub(super) fn word(number: u64) -> String {
    let mut rest = number.wrapping_mul(2_654_435_761) % 308_915_776;
    let letters: String = (0..6)
        .map(|_| {
            let letter = char::from(b'a' + (rest % 26) as u8);
            rest /= 26;
            letter
        })
        .collect();
    format!("Qxz{letters}vyw")
}

/// Gives a watched member values that nobody else has.
pub(super) fn mark(person: &mut Person, member: u64) {
    let word = word(member);
    person.ssn = format!("899-{:02}-{:04}", 1 + member / 9_999 % 99, 1 + member % 9_999);
    person.phone = format!("({:03}) 555-{:04}", 201 + member / 10_000 % 780, 8_000 + member % 2_000);
    person.address = format!("{} {word} Causeway", 100 + member % 900);
    person.email = format!("{}@canary.example.com", word.to_lowercase());
    person.last_name = word;
}

/// Everything about a watched member that must not be found.
pub(super) fn of_member(person: &Person) -> Vec<Canary> {
    [
        ("members.member_id", person.member_id.to_string()),
        ("members.ssn", person.ssn.clone()),
        ("members.mbi", person.mbi.clone()),
        ("members.last_name", person.last_name.clone()),
        ("members.address", person.address.clone()),
        ("members.phone", person.phone.clone()),
        ("members.email", person.email.clone()),
    ]
    .map(|(column, value)| Canary { column, value })
    .into()
}

#[cfg(test)]
mod tests {
    use crate::claims::{Claims, Scale};

    /// A number that ends in zeros is found by chance: positions of a server's log end so, in hexadecimal digits.
    #[test]
    fn a_planted_number_looks_like_no_position_of_a_log() {
        for canary in Claims::new(1, Scale::of_lines(1_000)).canaries() {
            let number = canary.value.bytes().all(|byte| byte.is_ascii_digit());
            assert!(!number || !canary.value.contains("0000"), "{}", canary.column);
        }
    }
}
