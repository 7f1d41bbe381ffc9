//! What a word can be, as bits.

/// A set of things that a word can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Word(u32);

macro_rules! bits {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Word { $($(#[$doc])* pub(super) const $name: Word = Word(1 << $bit);)* }
    };
}

bits! {
    /// In the vocabulary: passes the tier `allowlist`.
    SAFE = 0;
    GIVEN = 1;
    SURNAME = 2;
    MONTH = 3;
    WEEKDAY = 4;
    /// `Dr`, `Mr`.
    TITLE = 5;
    /// `MD`, `RN`, `Jr`.
    CREDENTIAL = 6;
    KIN = 7;
    /// A word behind which a name comes: `Patient`, `Attending`, `Dear`.
    ROLE = 8;
    /// A word behind which an identifier comes: `MRN`, `policy`.
    CUE = 9;
    /// A word behind which a phone number comes.
    CALL = 10;
    /// A word behind which a code of a public system comes: `CPT`.
    CODE = 11;
    UNIT = 12;
    STREET = 13;
    STATE = 14;
    CITY = 15;
    /// `Hospital`, `Clinic`, `Inc`.
    HOUSE = 16;
    EPONYM = 17;
    NUMBER = 18;
    /// `disease`, `sign`, `catheter`: behind an eponym.
    THING = 19;
    /// Part of a surname: `van`, `de`.
    PARTICLE = 20;
    HOLIDAY = 21;
    RARE = 22;
    /// A word that detectors look at for another reason.
    OTHER = 23;
    /// Of the word a capital begins and it is in no list.
    STRANGE = 24;
    SEASON = 25;
}

impl Word {
    pub(super) const NONE: Word = Word(0);

    pub(super) const fn and(self, other: Word) -> Word {
        Word(self.0 | other.0)
    }

    pub(super) fn add(&mut self, other: Word) {
        self.0 |= other.0;
    }

    pub(super) fn is(self, any_of: Word) -> bool {
        self.0 & any_of.0 != 0
    }

    /// Whether no detector begins with the word.
    pub(super) fn is_plain(self) -> bool {
        self.0 & !(Word::SAFE.0 | Word::UNIT.0 | Word::THING.0 | Word::CODE.0) == 0
    }
}
