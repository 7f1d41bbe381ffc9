//! Which tests did not run for want of a tool: no test is skipped silently.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The distinct `skipped: ...` lines that tests printed, from the runner's report; none when there is no report.
pub(crate) fn from_report(report: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(report).unwrap_or_default();
    text.lines().filter_map(from_line).map(|reason| plain(&reason)).collect()
}

/// The `skipped: ...` in a line of a test's output.
pub(crate) fn from_line(line: &str) -> Option<String> {
    line.find("skipped: ").map(|at| line[at..].to_owned())
}

/// Undoes the report's XML quoting.
fn plain(line: &str) -> String {
    let line = line.split("</").next().unwrap_or(line);
    line.replace("&apos;", "'").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_reason_once_and_unquotes_it() {
        let folder = std::env::temp_dir().join(format!("xtask-skips-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let report = folder.join("junit.xml");
        let line = "skipped: no &apos;duckdb&apos; in .tools";
        fs::write(&report, format!("<system-out>{line}\n{line}</system-out>\nok\n")).unwrap();
        let found: Vec<String> = from_report(&report).into_iter().collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, ["skipped: no 'duckdb' in .tools"]);
    }
}
