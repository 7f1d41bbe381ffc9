//! Labels of models, in the schemes that are in use: BIO, its relatives with marks for the last and the only word, and bare names.

use gate::Label;

/// What a model says of one word piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// It belongs to no entity.
    Outside,
    /// It begins an entity.
    Begins(Entity),
    /// It goes on with the entity before it; without one of its kind it begins one.
    Continues(Entity),
}

/// A kind of entity as the model calls it, and what the gate puts in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// The model's own name: two entities of different names are two, whatever their placeholder.
    pub name: String,
    /// The placeholder's label.
    pub label: Label,
}

impl Tag {
    /// Reads `O`, `B-PER`, `I-LOCATION_OTHER`, `S-DATE`, `PATIENT`. Every label is read: an unknown name gives the general placeholder.
    pub fn parse(text: &str) -> Self {
        if text.eq_ignore_ascii_case("O") {
            return Tag::Outside;
        }
        match text.split_once(['-', '_']) {
            Some(("B" | "S" | "U", name)) => Tag::Begins(Entity::named(name)),
            Some(("I" | "E" | "L", name)) => Tag::Continues(Entity::named(name)),
            _ => Tag::Continues(Entity::named(text)),
        }
    }

    /// The entity; `None` outside of all.
    pub fn entity(&self) -> Option<&Entity> {
        match self {
            Tag::Outside => None,
            Tag::Begins(entity) | Tag::Continues(entity) => Some(entity),
        }
    }
}

impl Entity {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), label: label(name) }
    }
}

/// The names of CoNLL, OntoNotes, i2b2 2006 and 2014, and of common models that find personal data.
fn label(name: &str) -> Label {
    let mut name = name.to_ascii_uppercase();
    name.retain(|character| character.is_ascii_alphanumeric());
    match name.as_str() {
        "PER" | "PERS" | "PERSON" | "NAME" | "PATIENT" | "DOCTOR" | "STAFF" | "HCW" | "USERNAME" | "FIRSTNAME"
        | "MIDDLENAME" | "LASTNAME" | "GIVENNAME" | "SURNAME" | "FULLNAME" | "RELATIVE" => Label::Name,
        "LOC" | "LOCATION" | "LOCATIONOTHER" | "GPE" | "CITY" | "COUNTY" | "STATE" | "COUNTRY" | "PLACE"
        | "OTHERLOC" => Label::Place,
        "STREET" | "STREETADDRESS" | "ADDRESS" | "BUILDINGNUM" | "SECONDARYADDRESS" => Label::Address,
        "ZIP" | "ZIPCODE" | "POSTCODE" => Label::Zip,
        "ORG" | "ORGANIZATION" | "ORGANISATION" | "HOSPITAL" | "HOSP" | "FACILITY" | "FAC" | "CLINIC" | "SCHOOL"
        | "VENDOR" | "PATORG" | "COMPANYNAME" | "EMPLOYER" => Label::Organization,
        "DATE" | "TIME" | "DATETIME" | "DATEOFBIRTH" | "DOB" => Label::Date,
        "AGE" => Label::Age,
        "PHONE" | "PHONENUMBER" | "TELEPHONE" | "TELEPHONENUM" | "FAX" | "PAGER" => Label::Phone,
        "EMAIL" => Label::Email,
        "URL" => Label::Url,
        "IP" | "IPADDR" | "IPADDRESS" | "MAC" => Label::Network,
        "SSN" | "SOCIALNUM" | "SOCIALSECURITYNUMBER" => Label::Ssn,
        "MEDICALRECORD" | "MEDICALRECORDNUMBER" | "MRN" => Label::Mrn,
        "HEALTHPLAN" | "HEALTHPLANBENEFICIARY" => Label::HealthPlan,
        "ACCOUNT" | "ACCOUNTNUM" | "ACCOUNTNUMBER" | "CREDITCARDNUMBER" | "IBAN" => Label::Account,
        "LICENSE" | "LICENCE" | "DRIVERLICENSE" | "DRIVERLICENSENUM" | "PASSPORT" => Label::Licence,
        "VEHICLE" | "VEHICLEID" => Label::Vehicle,
        "DEVICE" | "DEVICEID" => Label::Device,
        "BIOID" => Label::Picture,
        "ID" | "IDNUM" | "IDCARDNUM" | "TAXNUM" => Label::Id,
        _ => Label::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_every_scheme_are_read() {
        assert_eq!(Tag::parse("O"), Tag::Outside);
        let cases = [
            ("B-PER", true, Label::Name),
            ("I-PER", false, Label::Name),
            ("S-DOCTOR", true, Label::Name),
            ("U-HOSPITAL", true, Label::Organization),
            ("L-CITY", false, Label::Place),
            ("E_DATE", false, Label::Date),
            ("B-LOCATION-OTHER", true, Label::Place),
            ("B-MEDICALRECORD", true, Label::Mrn),
            ("PATIENT", false, Label::Name),
            ("ZIP_CODE", false, Label::Zip),
            ("I-PROFESSION", false, Label::Unknown),
            ("B-ID", true, Label::Id),
            ("MISC", false, Label::Unknown),
        ];
        for (text, begins, label) in cases {
            let tag = Tag::parse(text);
            assert_eq!((matches!(tag, Tag::Begins(_)), tag.entity().unwrap().label), (begins, label), "{text}");
        }
    }
}
