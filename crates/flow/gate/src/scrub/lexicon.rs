//! The words that detectors know. The lists lie under `data/scrub`, each with its source in its first line.

use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::word::Word;

/// Words in lower-case ASCII, and what each can be.
pub(super) struct Lexicon {
    words: HashMap<&'static [u8], Word>,
    /// Names of cities of several words, with `_` between them.
    cities: HashSet<&'static str>,
}

/// Longer words are in no list.
const LETTERS_MAX: usize = 28;

const FILES: [(Word, &str); 6] = [
    (Word::SAFE, include_str!("../../data/scrub/general.txt")),
    (Word::SAFE, include_str!("../../data/scrub/medical.txt")),
    (Word::SAFE, include_str!("../../data/scrub/drugs.txt")),
    (Word::GIVEN, include_str!("../../data/scrub/given-names.txt")),
    (Word::SURNAME, include_str!("../../data/scrub/surnames.txt")),
    (Word::EPONYM, include_str!("../../data/scrub/eponyms.txt")),
];

const CITIES: &str = include_str!("../../data/scrub/cities.txt");

/// Short lists. Street suffixes after USPS Publication 28, appendix C1.
const LISTS: [(Word, &str); 22] = [
    (
        Word::MONTH.and(Word::SAFE),
        "january february march april may june july august september october november december jan feb mar apr jun jul \
         aug sep sept oct nov dec",
    ),
    (
        Word::WEEKDAY.and(Word::SAFE),
        "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun",
    ),
    (
        Word::TITLE.and(Word::SAFE),
        "dr doctor mr mrs ms miss mx prof professor rev reverend rabbi fr pastor sgt capt lt sir madam judge officer detective",
    ),
    (
        Word::CREDENTIAL.and(Word::SAFE),
        "md rn do np pa phd lpn cna crna dds dmd dnp aprn fnp lcsw msw lpc psyd pharmd rph dpm od dc pt dpt otr cnm facs facp mph esq jr iii",
    ),
    (
        Word::KIN.and(Word::SAFE),
        "mother father mom dad wife husband son daughter brother sister spouse partner aunt uncle cousin niece nephew \
         grandmother grandfather grandson granddaughter grandma grandpa stepmother stepfather fiance fiancee girlfriend boyfriend \
         guardian caregiver neighbor roommate friend twin sibling mommy daddy",
    ),
    (
        Word::ROLE.and(Word::SAFE),
        "patient pt name attending provider physician pcp surgeon resident nurse author dictated signed cosigned by dear \
         cc with contact subscriber insured guarantor employee client named called consultant interpreter therapist \
         clinician hygienist pharmacist from to re beneficiary member specialist cardiologist reviewer witness technician aka nee alias \
         regarding hi hello sincerely regards",
    ),
    (
        Word::CUE.and(Word::SAFE),
        "mrn mr account acct policy member claim accession chart record id medicaid medicare subscriber case encounter \
         specimen order confirmation invoice serial sn lot license licence lic dl passport dea plate tag vin ssn social security \
         routing aba iban card identifier beneficiary insurance group certificate itin tin ein hicn mbi csn fin har npi visit identification \
         reference ref number imei udi",
    ),
    (
        Word::CUE.and(Word::CALL).and(Word::SAFE),
        "phone tel telephone call cell mobile fax pager beeper ext extension callback paged contact reached voicemail text",
    ),
    (
        Word::CODE.and(Word::SAFE),
        "cpt icd hcpcs drg ndc loinc snomed rxnorm rxcui revenue rev modifier dx code codes cvx taxonomy ub apc hcc cdt procedure",
    ),
    (
        Word::UNIT.and(Word::SAFE),
        "mg mcg kg gm gms g ml dl l cl mm cm meq mmol umol nmol pmol iu unt unit units mmhg bpm rpm cc oz lb lbs pounds ft \
         kcal cal ng pg hz ppm min mins minute minutes hr hrs hour hours sec seconds day days week weeks month months year years yr yrs \
         tablet tablets tab tabs capsule capsules cap caps puff puffs drop drops gtt times percent degrees mls liters liter inch inches \
         feet beats breaths cells copies pack packs drinks cigarettes steps meters miles dollars doses dose refills refill x wbc rbc hpf",
    ),
    (
        Word::STREET,
        "st street ave avenue rd road dr drive ln lane blvd boulevard ct court cir circle pl place ter terrace pkwy parkway way \
         hwy highway trl trail sq square loop run row pike plaza path crossing xing alley aly bend cove crescent expressway freeway \
         garden gardens glen grove heights hts hill hills hollow island knoll lake landing manor meadow meadows mews mill mount mountain \
         overpass park pass point ridge shore spring springs station stream summit throughway trace track tunnel turnpike tpke union valley \
         viaduct view village ville vista walk wall well wells dale dam divide estate estates extension falls ferry field fields flat flats \
         ford forest forge fork fort gateway green harbor haven hollow inlet isle junction key lodge mall motorway neck orchard oval parks \
         passage pine pines plain plains port prairie radial ramp ranch rapid rapids rest river route shoal shoals skyway spur stravenue \
         underpass unions corner corners common commons course branch bridge brook burg bypass camp canyon cape causeway center centers cliff cliffs club creek",
    ),
    (
        Word::STATE,
        "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois indiana iowa \
         kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada ohio \
         oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington wisconsin wyoming al ak az ar ca co ct de fl ga hi id \
         il in ia ks ky la me md ma mi mn ms mo mt ne nv nh nj nm ny nc nd oh ok or pa ri sc sd tn tx ut vt va wa wv wi wy dc pr",
    ),
    (
        Word::HOUSE,
        "hospital clinic center centre medical hospice pharmacy university college school academy elementary church temple synagogue \
         mosque cathedral inc llc corp corporation company ltd laboratories labs associates health healthcare infirmary sanatorium \
         rehabilitation rehab institute foundation system systems memorial facility residence manor lodge nursing ministries parish \
         physicians group bank industries enterprises plc gmbh partners",
    ),
    (
        Word::NUMBER.and(Word::SAFE),
        "ninety nineties hundred nonagenarian centenarian born age aged turned yob dob birth birthday",
    ),
    (
        Word::THING.and(Word::SAFE),
        "disease syndrome sign signs test catheter lymphoma palsy sarcoma tumor carcinoma score scale criteria classification \
         maneuver position procedure operation reflex phenomenon esophagus thyroiditis contracture cyst nodes node spots ring rings \
         triad law criterion phase stain fracture dystrophy ataxia chorea anemia esophagitis virus fever encephalopathy dementia \
         body bodies tube drain forceps clamp retractor stage staging index cells cell hernia diverticulum granuloma nodule \
         incision repair approach resection stoma bag bandage dressing test's lines line pouch gland glands ulcer aphasia area dialysis \
         arthropathy foot joint smear monitor ultrasound syncope cardiomyopathy colitis ileitis purpura psychosis hematoma exercises contractions",
    ),
    (Word::PARTICLE, "van von der den de del della da dos das di la le el al bin ibn st san mac ten ter"),
    (
        Word::HOLIDAY,
        "christmas thanksgiving easter halloween hanukkah chanukah kwanzaa ramadan passover diwali juneteenth valentine's valentines xmas",
    ),
    (Word::HOLIDAY, "memorial labor independence veterans presidents columbus eve fourth"),
    (
        Word::RARE.and(Word::SAFE),
        "mayor senator governor congressman congresswoman senator celebrity famous olympic olympian ambassador \
         president astronaut anchor lottery nfl nba mlb nhl well only news billionaire",
    ),
    (
        Word::OTHER.and(Word::SAFE),
        "po p box apt apartment suite county lives living resides resident moved native traveled works worked employed employer attends http https www ftp data fingerprint iris xxx",
    ),
    (Word::SEASON.and(Word::SAFE), "spring summer fall autumn winter"),
    (Word::SAFE, "am pm etc vs po prn bid tid qid os"),
];

/// Endings that only words of medicine have; the first letters are a root.
const ENDINGS: [&str; 84] = [
    "itis",
    "osis",
    "ectomy",
    "ostomy",
    "otomy",
    "oscopy",
    "ology",
    "ologist",
    "emia",
    "uria",
    "pathy",
    "plasty",
    "graphy",
    "algia",
    "megaly",
    "penia",
    "plegia",
    "paresis",
    "rrhea",
    "rrhage",
    "rrhagia",
    "sclerosis",
    "stenosis",
    "trophy",
    "phagia",
    "phasia",
    "pnea",
    "cardia",
    "pril",
    "sartan",
    "statin",
    "olol",
    "azole",
    "cillin",
    "mycin",
    "micin",
    "cycline",
    "floxacin",
    "prazole",
    "tidine",
    "dipine",
    "zosin",
    "setron",
    "triptan",
    "gliptin",
    "gliflozin",
    "glutide",
    "tinib",
    "zumab",
    "ximab",
    "mumab",
    "vir",
    "caine",
    "barbital",
    "azepam",
    "azolam",
    "oxetine",
    "pramine",
    "triptyline",
    "thiazide",
    "semide",
    "lukast",
    "terol",
    "sone",
    "solone",
    "onide",
    "parin",
    "xaban",
    "grel",
    "platin",
    "rubicin",
    "trexate",
    "mide",
    "zine",
    "idone",
    "fibrate",
    "conazole",
    "vastatin",
    "ic",
    "ous",
    "al",
    "ation",
    "ical",
    "ness",
];

const PREFIXES: [&str; 24] = [
    "un", "non", "re", "pre", "post", "anti", "hyper", "hypo", "peri", "intra", "inter", "sub", "multi", "bi", "over",
    "under", "micro", "mid", "supra", "infra", "trans", "para", "retro", "mal",
];

const SUFFIXES: [(&str, &[&str]); 18] = [
    ("'s", &[""]),
    ("s'", &["", "s"]),
    ("ies", &["y"]),
    ("ied", &["y"]),
    ("es", &["", "e"]),
    ("s", &[""]),
    ("ed", &["", "e"]),
    ("ing", &["", "e"]),
    ("ly", &["", "le"]),
    ("ally", &["", "al"]),
    ("er", &["", "e"]),
    ("ers", &["", "e"]),
    ("est", &["", "e"]),
    ("ness", &[""]),
    ("less", &[""]),
    ("ful", &[""]),
    ("ment", &[""]),
    ("able", &["", "e"]),
];

impl Lexicon {
    /// The only one: it is read once in a process.
    pub(super) fn shared() -> &'static Self {
        static SHARED: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);
        &SHARED
    }

    fn read() -> Self {
        let mut lexicon = Self { words: HashMap::with_capacity(16_384), cities: HashSet::new() };
        for (word, text) in FILES {
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                line.split_whitespace().for_each(|entry| lexicon.insert(entry, word));
            }
        }
        for (word, list) in LISTS {
            list.split_whitespace().for_each(|entry| lexicon.insert(entry, word));
        }
        for entry in CITIES.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
            match entry.split_once('_') {
                None => lexicon.insert(entry, Word::CITY),
                Some((first, _)) => {
                    lexicon.insert(first, Word::OTHER);
                    lexicon.cities.insert(entry);
                }
            }
        }
        lexicon
    }

    fn insert(&mut self, entry: &'static str, word: Word) {
        self.words.entry(entry.as_bytes()).or_default().add(word);
    }

    /// What the word can be, in any case and with or without `'s`; [`Word::NONE`] when no list has it.
    pub(super) fn look_up(&self, word: &str) -> Word {
        let mut folded = [0; LETTERS_MAX];
        let Some(length) = fold(word, &mut folded) else { return Word::NONE };
        if let Some(found) = self.words.get(&folded[..length]) {
            return *found;
        }
        let bare = folded[..length].strip_suffix(b"'s").unwrap_or_default();
        self.words.get(bare).copied().unwrap_or(Word::NONE)
    }

    /// Whether the words, with `_` between them, are a city.
    pub(super) fn is_city(&self, words: &str) -> bool {
        self.cities.contains(words)
    }

    /// Whether a word that no list has is made from one that passes, or has an ending that only words of medicine have.
    pub(super) fn derives(&self, word: &str) -> bool {
        let mut folded = [0; LETTERS_MAX];
        let Some(length) = fold(word, &mut folded) else { return false };
        let Ok(word) = std::str::from_utf8(&folded[..length]) else { return false };
        self.inflects(word)
            || PREFIXES
                .iter()
                .filter_map(|prefix| word.strip_prefix(prefix))
                .any(|rest| rest.len() >= 4 && (self.passes(rest) || self.inflects(rest)))
            || is_medical(word)
    }

    fn passes(&self, word: &str) -> bool {
        self.words.get(word.as_bytes()).is_some_and(|found| found.is(Word::SAFE))
    }

    fn inflects(&self, word: &str) -> bool {
        SUFFIXES.iter().any(|(suffix, ends)| {
            let Some(stem) = word.strip_suffix(suffix).filter(|stem| stem.len() >= 3) else { return false };
            let doubled = stem.as_bytes().windows(2).next_back().is_some_and(|pair| pair[0] == pair[1]);
            ends.iter().any(|end| match *end {
                "" => self.passes(stem),
                end => self.ends_with(stem, end),
            }) || (doubled && self.passes(&stem[..stem.len() - 1]))
        })
    }

    fn ends_with(&self, stem: &str, end: &str) -> bool {
        let mut whole = [0; LETTERS_MAX + 4];
        let length = stem.len() + end.len();
        whole[..stem.len()].copy_from_slice(stem.as_bytes());
        whole[stem.len()..length].copy_from_slice(end.as_bytes());
        self.words.get(&whole[..length]).is_some_and(|found| found.is(Word::SAFE))
    }
}

/// The last six endings are of other words too: there the root must be one of medicine's.
fn is_medical(word: &str) -> bool {
    const ROOTS: [&str; 60] = [
        "cardi", "gastr", "hepat", "nephr", "neur", "derm", "oste", "arthr", "my", "hemat", "hem", "thromb", "vascul",
        "pulmon", "pneum", "bronch", "laryng", "pharyng", "rhin", "ot", "ophthalm", "retin", "cerebr", "enceph",
        "mening", "psych", "thyr", "adren", "pancre", "chol", "col", "rect", "proct", "enter", "esophag", "duoden",
        "ile", "jejun", "splen", "lymph", "cyst", "ur", "prostat", "orch", "ovari", "hyster", "metr", "mast", "mamm",
        "cervic", "lumb", "thorac", "cost", "stern", "crani", "spin", "chondr", "tend", "electr", "immun",
    ];
    let rooted = ROOTS.iter().any(|root| root.len() >= 4 && word.starts_with(root));
    ENDINGS.iter().enumerate().any(|(at, ending)| {
        let general = at >= ENDINGS.len() - 6;
        word.len() >= ending.len() + 3
            && word.ends_with(ending)
            && (!general || rooted)
            && (ending.len() >= 4 || rooted || *ending == "vir" && word.len() >= 8)
    }) || (rooted && word.len() >= 10)
}

/// Writes the word in lower case and without accents; `None` when it is too long or not of Latin letters.
pub(super) fn fold(word: &str, folded: &mut [u8; LETTERS_MAX]) -> Option<usize> {
    if word.is_ascii() {
        let target = folded.get_mut(..word.len())?;
        target.copy_from_slice(word.as_bytes());
        target.make_ascii_lowercase();
        return Some(word.len());
    }
    let mut length = 0;
    for character in word.nfd().filter(|character| !is_combining_mark(*character)) {
        let plain: &[u8] = match character {
            'ß' => b"ss",
            'æ' | 'Æ' => b"ae",
            'œ' | 'Œ' => b"oe",
            'ø' | 'Ø' => b"o",
            'đ' | 'Đ' => b"d",
            'ł' | 'Ł' => b"l",
            'ı' => b"i",
            letter if letter.is_ascii() => &[letter.to_ascii_lowercase() as u8],
            _ => return None,
        };
        folded.get_mut(length..length + plain.len())?.copy_from_slice(plain);
        length += plain.len();
    }
    Some(length)
}

/// The word in lower case and without accents, of any length; letters that are not Latin stay.
pub(super) fn folded(word: &str) -> String {
    let mut short = [0; LETTERS_MAX];
    match fold(word, &mut short) {
        Some(length) => String::from_utf8_lossy(&short[..length]).into_owned(),
        None => word.to_lowercase(),
    }
}

/// The words of a value that is not a sentence, without the digits that stand at their ends.
fn bare_words(value: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !c.is_alphabetic();
    value
        .split(|c: char| c.is_whitespace() || c == ',')
        .map(move |word| word.trim_matches(ends))
        .filter(|word| !word.is_empty())
}

/// Whether a value holds a given name or a surname, and no more words than a person has.
pub(crate) fn is_person(value: &str) -> bool {
    let lexicon = Lexicon::shared();
    let is_name = |word: &str| {
        let found = lexicon.look_up(word);
        word.len() > 1 && (found.is(Word::GIVEN) || found.is(Word::SURNAME))
    };
    bare_words(value).count() <= 5 && bare_words(value).any(is_name)
}

/// Whether a value begins with a capital and has a word of four letters or more that is in no vocabulary, and few words in all.
pub(crate) fn is_strange(value: &str) -> bool {
    let lexicon = Lexicon::shared();
    let is_unknown = |word: &str| {
        let is_word = word.chars().count() >= 4 && word.chars().all(|c| c.is_alphabetic() || c == '\'');
        is_word && !lexicon.look_up(word).is(Word::SAFE) && !lexicon.derives(word)
    };
    value.starts_with(char::is_uppercase) && bare_words(value).count() <= 4 && bare_words(value).any(is_unknown)
}

/// Whether a value is the name of a city.
pub(crate) fn is_city(value: &str) -> bool {
    let lexicon = Lexicon::shared();
    let words: Vec<String> = bare_words(value).map(folded).collect();
    match &words[..] {
        [word] => lexicon.look_up(word).is(Word::CITY),
        words => lexicon.is_city(&words.join("_")),
    }
}

/// Whether a word is a month's name or the start of one.
pub(crate) fn is_month(word: &str) -> bool {
    Lexicon::shared().look_up(word).is(Word::MONTH)
}

/// Whether a word is one of a street's: `Avenue`, `st.`
pub(crate) fn is_street(word: &str) -> bool {
    Lexicon::shared().look_up(word.trim_end_matches(['.', ','])).is(Word::STREET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_in_every_case_and_form() {
        let lexicon = Lexicon::shared();
        assert!(lexicon.look_up("Hypertension").is(Word::SAFE) && lexicon.look_up("JOHN").is(Word::GIVEN));
        assert!(lexicon.look_up("José").is(Word::GIVEN) && lexicon.look_up("Smith's").is(Word::SURNAME));
        assert_eq!(lexicon.look_up("Zbigniew"), Word::NONE);
        for word in [
            "walked",
            "stopped",
            "taking",
            "bodies",
            "unlikely",
            "recurring",
            "tonsillectomy",
            "lisinopril",
            "gastrointestinal",
        ] {
            assert!(lexicon.look_up(word).is(Word::SAFE) || lexicon.derives(word), "{word}");
        }
        for word in ["Zbigniew", "Kowalczyk", "Oyelaran", "Marchetti", "Nakagawa", "Vandersloot", "Петров"] {
            assert!(!lexicon.derives(word), "{word}");
        }
        assert!(lexicon.is_city("new_york") && !lexicon.is_city("new_car"));
    }
}
