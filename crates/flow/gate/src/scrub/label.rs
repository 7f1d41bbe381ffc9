/// What a replaced place held; the placeholder is its name between square brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// A person's name.
    Name,
    /// A date finer than a year.
    Date,
    /// An age above 89, or a year of birth that shows one.
    Age,
    /// A street address or a post box.
    Address,
    /// A city, county or another place below a state.
    Place,
    /// A ZIP code.
    Zip,
    /// A phone, fax or pager number.
    Phone,
    /// An e-mail address.
    Email,
    /// A web address or handle.
    Url,
    /// A network address.
    Network,
    /// A social security or tax number.
    Ssn,
    /// A number of a health plan's beneficiary.
    HealthPlan,
    /// A medical record number.
    Mrn,
    /// An account, bank or card number.
    Account,
    /// A licence, passport or certificate.
    Licence,
    /// A national provider identifier.
    Npi,
    /// A vehicle.
    Vehicle,
    /// A device.
    Device,
    /// An employer, facility, school or religious house.
    Organization,
    /// Biometrics and pictures.
    Picture,
    /// Any other unique number or code.
    Id,
    /// A rare characteristic: the row wants a reviewer.
    Rare,
    /// What the tier `allowlist` does not know.
    Unknown,
}

impl Label {
    /// Every label, in the order in which it wins over others of the same length.
    pub const ALL: [Label; 23] = [
        Label::Ssn,
        Label::HealthPlan,
        Label::Mrn,
        Label::Account,
        Label::Licence,
        Label::Npi,
        Label::Email,
        Label::Url,
        Label::Network,
        Label::Phone,
        Label::Vehicle,
        Label::Device,
        Label::Picture,
        Label::Date,
        Label::Age,
        Label::Address,
        Label::Zip,
        Label::Place,
        Label::Name,
        Label::Organization,
        Label::Id,
        Label::Rare,
        Label::Unknown,
    ];

    /// The placeholder.
    pub fn placeholder(self) -> &'static str {
        match self {
            Label::Name => "[NAME]",
            Label::Date => "[DATE]",
            Label::Age => "[AGE]",
            Label::Address => "[ADDRESS]",
            Label::Place => "[PLACE]",
            Label::Zip => "[ZIP]",
            Label::Phone => "[PHONE]",
            Label::Email => "[EMAIL]",
            Label::Url => "[URL]",
            Label::Network => "[NETWORK]",
            Label::Ssn => "[SSN]",
            Label::HealthPlan => "[HEALTH_PLAN]",
            Label::Mrn => "[MRN]",
            Label::Account => "[ACCOUNT]",
            Label::Licence => "[LICENCE]",
            Label::Npi => "[NPI]",
            Label::Vehicle => "[VEHICLE]",
            Label::Device => "[DEVICE]",
            Label::Organization => "[ORGANIZATION]",
            Label::Picture => "[PICTURE]",
            Label::Id => "[ID]",
            Label::Rare => "[RARE]",
            Label::Unknown => "[REDACTED]",
        }
    }

    pub(super) fn rank(self) -> usize {
        Self::ALL.iter().position(|label| *label == self).unwrap_or(usize::MAX)
    }

    /// Whether the text begins with a placeholder, and how long that is.
    pub(super) fn placeholder_at(text: &str) -> Option<usize> {
        let all = Self::ALL.iter().map(|label| label.placeholder()).chain([super::REFUSED]);
        all.into_iter().find(|placeholder| text.starts_with(placeholder)).map(str::len)
    }
}
