//! The rows. Each measures one promise.

pub mod cold;
pub mod field;
pub mod growth;
pub mod idle;
pub mod listing;
pub mod many;
pub mod outage;
pub mod push;
pub mod warm;

use std::path::Path;
use std::time::Duration;

use super::calls::Calls;
use super::space::Space;

/// The context of every row.
#[derive(Debug)]
pub struct Bench {
    /// The working folder and the programs.
    pub space: Space,
    /// The kernel's counter, if available.
    pub calls: Option<Calls>,
    /// Whether this is a smoke run.
    pub quick: bool,
    /// Whether the run mounts peers too.
    pub peers: bool,
}

impl Bench {
    /// Returns the first number, or the second in a smoke run.
    pub fn sized(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

/// The delay of each target of a push: that of a store in the same country.
pub const DELAY: Duration = Duration::from_millis(20);

/// The size of an artifact in the rows that read or write one.
pub const SIZE: usize = 4096;

/// Makes a schema state of [`SIZE`] bytes with a mark.
pub fn schema(mark: &str) -> Vec<u8> {
    let mut text = format!("schema \"main\" {{\n  comment = \"{mark}\"\n}}\n");
    while text.len() < SIZE {
        text.push_str("# padding\n");
    }
    text.truncate(SIZE - 1);
    (text + "\n").into_bytes()
}

/// Returns a plan's name, as long as Atlas's default names.
pub fn plan_name(number: usize) -> String {
    format!("2024091017{number:04}")
}

/// Makes a plan with a mark.
pub fn plan(name: &str, mark: &str) -> Vec<u8> {
    let text = format!(
        "plan \"{name}\" {{\n  from      = \"a1=\"\n  to        = \"b2=\"\n  migration = \
         <<-SQL\n  -- {mark}\n  CREATE TABLE t (id int);\n  SQL\n}}\n"
    );
    text.into_bytes()
}

/// Opens a file, reads it whole and closes it; returns its number of bytes.
pub fn open_read_close(path: &Path) -> usize {
    use std::io::Read;
    let mut buffer = [0; 2 * SIZE];
    let file = std::fs::File::open(path);
    let read = file.and_then(|mut file| file.read(&mut buffer));
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
