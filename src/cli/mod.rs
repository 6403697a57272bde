//! The command line: from the user's arguments to an exit code.

mod adopt;
mod args;
mod background;
mod check;
mod diff;
mod exit;
mod forget;
mod help;
mod history;
mod job;
mod log;
mod mount;
mod process;
mod repository;
mod settings;
mod start;
mod status;
mod table;
mod tag;
mod targets;
mod topology;
mod unmount;

use std::ffi::OsString;
use std::process::ExitCode;

pub use exit::Exit;
pub use settings::{FallbackReason, LogFormat, LogSettings, MountSettings, Selection};
pub use start::{Started, start};
pub use topology::StartError;

use args::{Refusal, Request};

/// Runs the command line and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = args.into_iter().collect();
    let exit = match args::parse(argv.clone()) {
        Ok(Request::Mount(settings)) if settings.foreground => {
            mount::adjust_limits();
            mount::in_foreground(&settings)
        }
        Ok(Request::Mount(settings)) => background::launch(&settings, &argv),
        Ok(Request::Daemon) => background::daemon(),
        Ok(Request::Unmount(args)) => unmount::unmount(&args),
        Ok(Request::Status(args)) => status::status(&args),
        Ok(Request::Job(task, args)) => job::run(task, &args),
        Ok(Request::Adopt(url)) => adopt::adopt(&url),
        Ok(Request::Forget(args)) => forget::forget(&args),
        Ok(Request::History(args)) => history::history(&args),
        Ok(Request::Tag(args)) => tag::tag(&args),
        Ok(Request::Diff(args)) => diff::diff(&args),
        Ok(Request::Check(settings)) => check::check(&settings),
        Ok(Request::Help(text)) => {
            print(&text);
            Exit::Success
        }
        Ok(Request::Nothing) => Exit::Success,
        Err(refusal) => refuse(&refusal),
    };
    exit.into()
}

fn refuse(refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::Clap(error) => {
            // The terminal may be gone.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            }
        }
        Refusal::Line(line) => {
            complain(line);
            Exit::Usage
        }
    }
}

/// Reports an error on stderr in one line.
fn complain(line: &str) {
    use std::io::Write;
    // `eprintln` would panic if stderr is closed.
    let _ = writeln!(std::io::stderr(), "atlasfs: {line}");
}

/// Prints a result on stdout.
fn print(text: &str) {
    use std::io::Write;
    // `println` would panic if the reader has closed the pipe.
    let _ = writeln!(std::io::stdout(), "{text}");
}
