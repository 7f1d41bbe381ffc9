use super::schema::Table;

/// The source's name in both files.
pub const SOURCE: &str = "claims_db";

/// The publication that [`grant`] makes.
pub const PUBLICATION: &str = "lockgate_claims";

/// What an administrator runs once so that the role `lockgate` can read the plan's tables, and no more than that.
pub fn grant() -> String {
    let tables: Vec<&str> = Table::ALL.iter().map(|table| table.name()).collect();
    let tables = tables.join(", ");
    format!(
        "CREATE ROLE lockgate LOGIN REPLICATION; GRANT SELECT ON {tables} TO lockgate; CREATE PUBLICATION {PUBLICATION} FOR TABLE {tables};"
    )
}

/// The policy for the plan's tables, as `policy.yaml`. It leaves the column of the migration unnamed, and masks 12 of the 25 columns of
/// `claim_lines`, five of them with tokens.
pub fn policy_yaml() -> &'static str {
    include_str!("policy.yaml")
}

/// The columns that the policy names under a table, each with its transform as it is spelled there.
pub fn rules(table: Table) -> Vec<(&'static str, &'static str)> {
    let begin = format!("  {SOURCE}.public.{}:\n", table.name());
    let rest = policy_yaml().split_once(&begin).map_or("", |(_, rest)| rest);
    let lines = rest.lines().take_while(|line| line.starts_with("    "));
    let rule = |line: &'static str| line.split('#').next().and_then(|rule| rule.split_once(':'));
    lines.filter_map(rule).map(|(column, transform)| (column.trim(), transform.trim())).collect()
}

/// A `lockgate.yaml` that reads the plan's tables from `url` into the folder `./lake`, and commits after `max_seconds`.
pub fn lockgate_yaml(url: &str, slot: &str, max_seconds: f64) -> String {
    let tables: Vec<String> = Table::ALL.iter().map(|table| format!("public.{}", table.name())).collect();
    format!(
        "# Where changes come from and where they go: the engineers' file.\n\
         lake: ./lake\n\
         sources:\n\
         \x20 {SOURCE}:\n\
         \x20   postgres:\n\
         \x20     url: {url}\n\
         \x20     slot: {slot}\n\
         \x20     publication: {PUBLICATION}\n\
         \x20   tables: [{}]\n\
         commit: {{ max_seconds: {max_seconds}, max_rows: 200000 }}\n",
        tables.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::create_tables;

    fn columns(table: Table) -> Vec<&'static str> {
        let (_, rest) = create_tables().split_once(&format!("CREATE TABLE {} (\n", table.name())).unwrap();
        let lines = rest.lines().take_while(|line| *line != ");").map(|line| line.split_whitespace().next().unwrap());
        lines.filter(|word| *word != "PRIMARY").collect()
    }

    #[test]
    fn every_column_has_one_rule() {
        for table in Table::ALL {
            let mut named: Vec<&str> = rules(table).iter().map(|(column, _)| *column).collect();
            let mut declared = columns(table);
            named.sort_unstable();
            declared.sort_unstable();
            assert_eq!(named, declared, "{}", table.name());
        }
    }

    #[test]
    fn claim_lines_has_25_columns_12_masked_5_tokens() {
        let rules = rules(Table::ClaimLines);
        let count = |fits: fn(&str) -> bool| rules.iter().filter(|(_, transform)| fits(transform)).count();
        assert_eq!(rules.len(), 25);
        assert_eq!(count(|transform| transform != "keep"), 12);
        assert_eq!(count(|transform| transform.starts_with("hmac_token")), 5);
    }
}
