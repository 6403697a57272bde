//! The last check of the suite's output: it contains no secret of the tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::path::Path;

use support::output;
use support::secrets::{NOTED, Search, fixed, noted};

/// Searches every file of a folder except the list of secrets. Returns the secrets found, and the
/// number of searched files and bytes.
fn search(folder: &Path) -> (Vec<String>, usize, usize) {
    let secrets = [fixed(), noted(folder)].concat();
    let search = Search::for_all(&secrets);
    let (mut found, mut files, mut size) = (Vec::new(), 0, 0);
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_name() == NOTED {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        (files, size) = (files + 1, size + bytes.len());
        if let Some((secret, line)) = search.find(&bytes) {
            found.push(format!("{secret} is in {}: {line}", entry.path().display()));
        }
    }
    (found, files, size)
}

#[test]
fn a_secret_is_found_in_every_form_that_it_may_take() {
    let made = "w/J5+made=while";
    let forms = fixed().into_iter().chain([
        made.to_owned(),
        "w%2FJ5%2Bmade%3Dwhile".into(),
        "w/J5%2Bmade%3Dwhile".into(),
        // The same in base64.
        "dy9KNSttYWRlPXdoaWxl".into(),
        format!("Failure {{ reason: {made:?} }}"),
        "authorization: Bearer eyJhbGciOi".into(),
        "PUT /c/app/schema?sv=2018-11-09&sig=abc".into(),
        "Credential=x AWS4-HMAC-SHA256".into(),
    ]);
    for form in forms {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NOTED), format!("{made}\n")).unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "all\nis\nwell\n").unwrap();
        assert_eq!(search(folder.path()).0, [""; 0]);
        std::fs::write(&file, format!("all\nis {form} not\nwell\n")).unwrap();
        let (found, files, _) = search(folder.path());
        assert_eq!((found.len(), files), (1, 1), "{form}");
        assert!(found[0].ends_with(" not"), "{found:?}");
    }
}

#[test]
#[ignore = "scripts/test runs it when everything else has ended"]
fn no_secret_is_in_anything_that_the_suite_has_printed() {
    let folder = output::folder().expect("ATLASFS_TEST_OUTPUT: scripts/test sets it");
    let (found, files, size) = search(folder);
    println!(
        "{size} bytes in {files} files, and {} secrets",
        noted(folder).len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Each kind of output must be there: a search without files finds nothing.
    for kind in ["suite", "programs", "logs", "control", "state", "processes"] {
        let names = std::fs::read_dir(folder).unwrap().flatten();
        let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
        assert!(
            names.any(|name| name.starts_with(kind)),
            "nothing of {kind}"
        );
    }
}
