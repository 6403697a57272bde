//! The `atlasfs` command: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    atlasfs::cli::run(std::env::args_os())
}
