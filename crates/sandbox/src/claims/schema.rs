/// A table of the plan's database; all are in the schema `public`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Who treats.
    Providers,
    /// Who is insured.
    Members,
    /// What was billed, as a whole.
    Claims,
    /// What was billed, service by service: 25 columns.
    ClaimLines,
    /// Free text about a claim, full of identifiers, sometimes too long to lie in the row itself.
    ClaimNotes,
    /// A landing table that is emptied and filled again.
    EligibilityStaging,
}

impl Table {
    /// All tables, in the order in which they are loaded.
    pub const ALL: [Table; 6] = [
        Table::Providers,
        Table::Members,
        Table::Claims,
        Table::ClaimLines,
        Table::ClaimNotes,
        Table::EligibilityStaging,
    ];

    /// The table's name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Table::Providers => "providers",
            Table::Members => "members",
            Table::Claims => "claims",
            Table::ClaimLines => "claim_lines",
            Table::ClaimNotes => "claim_notes",
            Table::EligibilityStaging => "eligibility_staging",
        }
    }
}

/// The statements that make the tables, empty.
pub fn create_tables() -> &'static str {
    include_str!("schema.sql")
}

/// What a migration does to the tables in the middle of a working day: a column that no policy names, with an identifier in it, and a
/// column that becomes wider.
pub fn schema_changes() -> &'static str {
    "ALTER TABLE members ADD COLUMN preferred_contact text;
     ALTER TABLE claims ALTER COLUMN status TYPE varchar(24);"
}
