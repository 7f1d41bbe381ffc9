use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::options::Options;
use crate::report::{Line, rate};

/// What `cargo bench -p gate` and `cargo bench -p app --bench vault` have left: the median of each transform.
pub(crate) fn measure(options: &Options) -> Result<Vec<Line>> {
    let group = options.criterion.join("gate");
    let folders = fs::read_dir(&group).with_context(|| format!("{}: run `cargo bench -p gate`", group.display()))?;
    let mut found = Vec::new();
    for folder in folders {
        let newest = folder?.path().join("new");
        // A group's folder also holds its own report.
        if newest.is_dir() {
            found.push(kernel(&newest)?);
        }
    }
    ensure!(!found.is_empty(), "{}: no kernel was measured; run `cargo bench -p gate`", group.display());
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().map(|(name, speed)| Line::of(format!("`{name}`")).ours(format!("{speed} values"))).collect())
}

/// Name and values a second.
fn kernel(folder: &Path) -> Result<(String, String)> {
    let read = |name: &str| -> Result<Value> {
        let file = folder.join(name);
        let text = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let values = benchmark["throughput"]["Elements"].as_u64().context("a kernel without a number of values")?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64().context("a kernel without a median")?;
    let name = benchmark["function_id"].as_str().context("a kernel without a name")?;
    Ok((name.to_owned(), rate(values, Duration::from_secs_f64(nanoseconds / 1e9))))
}
