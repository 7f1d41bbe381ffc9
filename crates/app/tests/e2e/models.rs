//! The tier `detect+ner`: a policy that names a model, a program with models and one without.

use std::path::PathBuf;

const SHA256: &str = "e3a699335d373355fbd195abefd200b534dbbcd390dd57a957194577802ca25a";

/// The folder of the small model that the tests of `ner` have, which leans to labels for some made-up names.
fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../flow/ner/tests/model")
}

fn policy(rule: &str, sha256: &str) -> String {
    format!("  db.public.t:\n    id: keep\n    note: {rule}\nner: {{ model: ./models/deid, sha256: {sha256} }}\n")
}

const RULE: &str = "{ transform: scrub_text(detect+ner), reason: r, reviewer: p }";

#[cfg(feature = "ner")]
mod with_models {
    use super::super::project::{Project, files};
    use super::*;

    const NOTES: &str = "CREATE TABLE t (id int PRIMARY KEY, note text);
        INSERT INTO t VALUES (1, 'zebulon quillip saw ardwin on 3/14/2024'), (2, 'the patient is well'), (3, NULL),
            (4, 'Élan lives in OXBOW near Mercygate  Halls'), (5, repeat('pain ', 5000) || 'zebulon')";

    async fn project(name: &str, rule: &str) -> Project {
        let project = Project::new(name, NOTES, &["public.t"], &policy(rule, SHA256)).await;
        std::fs::create_dir_all(project.dir.join("models/deid")).unwrap();
        for file in ["config.json", "model.onnx", "tokenizer.json"] {
            std::fs::copy(model().join(file), project.dir.join("models/deid").join(file)).unwrap();
        }
        project
    }

    fn notes(project: &Project) -> Vec<String> {
        project.query("SELECT id, note FROM db.public.t ORDER BY id")
    }

    const SCRUBBED: [&str; 5] = [
        "1,[NAME] saw [NAME] on [DATE]",
        "2,the patient is well",
        "3,",
        "4,[NAME] lives in [PLACE] near [ORGANIZATION]",
        "5,[REDACTED:error]",
    ];

    #[tokio::test(flavor = "multi_thread")]
    async fn texts_are_searched_with_the_named_model_and_its_digest_is_in_every_commit() {
        let project = project("models", RULE).await;
        assert!(project.lockgate_ok(&["check"]).contains("nothing to fix"));
        project.lockgate_ok(&["run", "--once"]);
        assert_eq!(notes(&project), SCRUBBED);
        let committed = files(&project.lake_table("t"))
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let texts: Vec<String> = committed.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(texts.iter().any(|text| text.contains(&format!("detect+ner:{SHA256}"))));
        project.database.batch_execute("UPDATE t SET note = 'norbertine is well' WHERE id = 2").await.unwrap();
        project.lockgate_ok(&["run", "--once"]);
        assert_eq!(notes(&project)[1], "2,[NAME] is well");
        project.lockgate_ok(&["verify"]);
        project.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn texts_that_were_kept_are_remasked_with_the_model() {
        let project = project("models-remask", RULE).await;
        project.write_policy("  db.public.t:\n    id: keep\n    note: { transform: keep, reason: r, reviewer: p }\n");
        project.lockgate_ok(&["run", "--once"]);
        project.write_policy(&policy(RULE, SHA256));
        project.lockgate_ok(&["remask"]);
        assert_eq!(notes(&project), SCRUBBED);
        project.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_person_is_erased_without_the_model_and_a_held_row_is_not_shown_without_it() {
        let rule = format!("{RULE}\n    born: {{ transform: date_year, on_invalid: hold }}\nmax_invalid_percent: 100");
        let project = project("models-erase", &rule).await;
        project
            .database
            .batch_execute("ALTER TABLE t ADD COLUMN born text; UPDATE t SET born = 'unknown' WHERE id = 2")
            .await
            .unwrap();
        project.write_policy(&policy(&rule, SHA256).replace("id: keep", "id: hmac_token(person)"));
        assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3), "a row is held");
        assert!(project.lockgate_ok(&["held", "show", "1"]).contains("note: the patient is well"));
        let (models, away) = (project.dir.join("models"), project.dir.join("away"));
        std::fs::rename(&models, &away).unwrap();
        let shown = project.lockgate(&["held", "show", "1"]);
        let said = [shown.stdout, shown.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(shown.status.code() == Some(1) && said.contains("the model's folder has no config.json"), "{said}");
        // One of the two persons has a row that is held.
        let said = project.erase_ok(&["--subject", "db.public.t.id"], "1\n2\n");
        assert!(said.contains("2 persons") && said.contains("no trace"), "{said}");
        assert!(!project.lockgate_ok(&["held", "list"]).contains("db.public.t"), "the held row is erased");
        std::fs::rename(&away, &models).unwrap();
        project.lockgate_ok(&["run", "--once"]);
        assert_eq!(project.query("SELECT count(*) FROM db.public.t"), ["3"]);
        project.end().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_missing_or_another_model_is_named_and_nothing_is_read() {
        let project = project("models-wrong", RULE).await;
        let refused = |command: &[&str], what: &str| {
            let output = project.lockgate(command);
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
            assert!(output.status.code() == Some(1) && said.contains(what), "{command:?}: {said}");
        };
        let other = policy(RULE, &SHA256.replace(|digit: char| digit.is_ascii_digit(), "a"));
        project.write_policy(&other);
        for command in [&["check"][..], &["check", "--connect"], &["run", "--once"], &["remask"]] {
            refused(command, &format!("write `sha256: {SHA256}`"));
        }
        project.write_policy(&policy(RULE, SHA256));
        std::fs::remove_file(project.dir.join("models/deid/tokenizer.json")).unwrap();
        refused(&["check"], "./models/deid: the model's folder has no tokenizer.json and no vocab.txt");
        std::fs::remove_dir_all(project.dir.join("models")).unwrap();
        for command in [&["check"][..], &["run", "--once"], &["remask"]] {
            refused(command, "./models/deid: the model's folder has no config.json");
        }
        assert!(!project.lake_table("t").exists());
        project.end().await;
    }
}

#[cfg(not(feature = "ner"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_models_refuses_the_tier() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'calm')";
    let project = super::project::Project::new("no-models", setup, &["public.t"], &policy(RULE, SHA256)).await;
    assert!(model().join("model.onnx").exists());
    for command in [&["check"][..], &["check", "--connect"], &["run", "--once"], &["remask"]] {
        let output = project.lockgate(command);
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        let refused = output.status.code() == Some(1) && said.contains("this lockgate was built without models");
        assert!(refused && said.contains("--features ner"), "{command:?}: {said}");
    }
    assert!(!project.lake_table("t").exists());
    let explained = project.lockgate_ok(&["policy", "explain"]);
    assert!(explained.contains(&format!("model ./models/deid, SHA-256 {SHA256}")), "{explained}");
    project.end().await;
}
