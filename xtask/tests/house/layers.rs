//! Who may depend on whom: data flows one way, and only one crate knows each outside world.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::sources::root;

/// Each crate, what it may depend on, and what its tests may use besides.
const ARROWS: [(&str, &[&str], &[&str]); 11] = [
    ("change", &[], &[]),
    ("audit", &["change"], &[]),
    ("capture", &["change"], &["sandbox", "gate"]),
    ("gate", &["change"], &[]),
    ("lake", &["change", "gate"], &["sandbox"]),
    ("ner", &["change", "gate"], &[]),
    ("serve", &["change", "lake"], &["gate"]),
    ("sandbox", &[], &[]),
    ("app", &["change", "audit", "capture", "gate", "lake", "ner", "serve", "sandbox"], &[]),
    ("compare", &["sandbox"], &[]),
    ("xtask", &[], &[]),
];

/// An outside world, and the only crates that may depend on it, tests included.
const WORLDS: [(&str, &[&str]); 9] = [
    ("deltalake", &["lake"]),
    ("buoyant_kernel", &["lake"]),
    // The simulation wraps one with faults.
    ("object_store", &["lake", "app"]),
    // The demo looks for leaks in the files themselves, not through `lake`.
    ("parquet", &["lake", "app"]),
    ("datafusion", &["lake", "serve"]),
    ("tract-onnx", &["ner"]),
    ("pgwire-replication", &["capture"]),
    ("tokio-postgres", &["capture", "sandbox", "app", "compare"]),
    ("tokio", &["capture", "lake", "serve", "sandbox", "app", "compare"]),
];

struct Arrow {
    from: String,
    to: String,
    dev: bool,
}

fn arrows() -> Vec<Arrow> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            arrows.push(Arrow {
                from: package["name"].as_str().unwrap().to_owned(),
                to: dependency["name"].as_str().unwrap().to_owned(),
                dev: dependency["kind"] == "dev",
            });
        }
        // A crate without dependencies still has to be in the table.
        let name = package["name"].as_str().unwrap().to_owned();
        arrows.push(Arrow { from: name.clone(), to: name, dev: true });
    }
    arrows
}

#[test]
fn only_the_drawn_arrows_exist() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _, _)| *name).collect();
    let mut wrong = Vec::new();
    for Arrow { from, to, dev } in arrows() {
        let Some((_, may, tests_may)) = ARROWS.iter().find(|(name, _, _)| *name == from) else {
            wrong.push(format!("{from}: a new crate; draw its arrows in {} and in ARCHITECTURE.md", file!()));
            continue;
        };
        let drawn = to == from || may.contains(&to.as_str()) || (dev && tests_may.contains(&to.as_str()));
        if ours.contains(to.as_str()) && !drawn {
            wrong.push(format!("{from} -> {to}: not an arrow of ARCHITECTURE.md"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn each_outside_world_has_its_crates() {
    let mut wrong = Vec::new();
    for Arrow { from, to, .. } in arrows() {
        if let Some((_, may)) = WORLDS.iter().find(|(world, _)| *world == to)
            && !may.contains(&from.as_str())
        {
            wrong.push(format!("{from} depends on {to}; only {} may", may.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
