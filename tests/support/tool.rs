//! The programs that scripts/setup-test-servers installs.

use std::path::PathBuf;

/// Returns the path of a tool.
pub fn tool(path: &str) -> PathBuf {
    let tools = std::env::var_os("ATLASFS_TOOLS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools"),
        PathBuf::from,
    );
    let program = tools.join(path);
    assert!(
        program.exists(),
        "{} is not installed: run scripts/setup-test-servers",
        program.display()
    );
    program
}
