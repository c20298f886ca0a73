//! Golden files: bytes that must never change, kept in `tests/golden`. With HURTIG_UPDATE_GOLDEN set
//! in the environment the tests write them anew.

use std::path::PathBuf;

/// Compares `actual` with the golden file `name`.
pub(crate) fn check(name: &str, actual: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("HURTIG_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if expected != actual {
        panic!(
            "{name} has changed: persisted formats need a new version and a reader for the old one\n{}",
            String::from_utf8_lossy(actual)
        );
    }
}
