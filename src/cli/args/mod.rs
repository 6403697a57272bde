//! The command line: its commands, and their parsing.

mod mount;
mod options;
#[cfg(test)]
mod tests;
mod units;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::mount::{MountArgs, SelectionArgs};
use super::settings::{CheckSettings, MountSettings};
use super::{exit, help};

/// The task that the user asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// Mount.
    Mount(Box<MountSettings>),
    /// Mount, for the process that passes the arguments to this one's stdin.
    Daemon,
    /// Unmount.
    Unmount(UnmountArgs),
    /// Show the status of a mount.
    Status(StatusArgs),
    /// Show where the targets of a mount differ, or repair the differences.
    Job(&'static str, JobArgs),
    /// Take a store's identity away.
    Adopt(String),
    /// Give up what waits for a store.
    Forget(ForgetArgs),
    /// Show the versions of a repository.
    History(HistoryArgs),
    /// Make or move a tag.
    Tag(TagArgs),
    /// Show the difference of two versions.
    Diff(DiffArgs),
    /// Check targets without a mount.
    Check(CheckSettings),
    /// Show this help.
    Help(String),
    /// Nothing: mount(8) only asks whether a mount would be possible.
    Nothing,
}

/// The reason for no action: the command line is wrong, or asks for help.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An error or help text of clap.
    Clap(clap::Error),
    /// One line.
    Line(String),
}

#[derive(Debug, Parser)]
#[command(
    name = "atlasfs",
    version,
    about = "Mounts the Atlas Registry as a directory",
    after_help = help::overview(),
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount the registry on a directory
    Mount(Box<MountArgs>),
    /// Unmount, after every push has finished
    #[command(visible_alias = "umount", after_help = exit::HELP)]
    Unmount(UnmountArgs),
    /// Show the health of a mount, also as the exit code
    #[command(after_help = exit::HELP)]
    Status(StatusArgs),
    /// Show where the targets of a mount differ, and change nothing
    #[command(after_help = exit::HELP)]
    Verify(JobArgs),
    /// Copy to every target of a mount what it lacks, now
    #[command(after_help = exit::HELP)]
    Sync(SyncArgs),
    /// Make a store forget its role, so that the next mount that names it makes it its own
    #[command(after_help = exit::HELP)]
    Adopt {
        /// The store's URL
        url: String,
    },
    /// Give up the pushes that wait for a store that a mount does not have any more
    #[command(after_help = exit::HELP)]
    Forget(ForgetArgs),
    /// Show the versions of a repository with their tags, newest first
    #[command(after_help = example("atlasfs history /mnt/registry/app -n 5"))]
    History(HistoryArgs),
    /// Name a version of a repository, or move the name to it
    #[command(after_help = example("atlasfs tag /mnt/registry/app prod 20240910173744-0a1b2c3d"))]
    Tag(TagArgs),
    /// Show the lines that differ between two versions of a repository
    #[command(after_help = example("atlasfs diff /mnt/registry/app prod latest"))]
    Diff(DiffArgs),
    /// Check that every target is reachable, readable and writable, and suggest fixes
    #[command(after_help = exit::HELP)]
    Check(Box<CheckArgs>),
    /// Show the documentation on a topic, or the help of a command
    Help {
        /// A topic or a command. Default: a list of both
        topic: Option<String>,
    },
    /// The process behind a mount
    #[command(hide = true)]
    Daemon {
        /// The mount point, for the process list
        dir: PathBuf,
    },
}

/// The arguments of `unmount`.
#[derive(Debug, Args)]
pub(super) struct UnmountArgs {
    /// The mount point
    pub(super) dir: PathBuf,
    /// Detach the mount now, even if files are open; they stay usable until closed
    #[arg(long)]
    pub(super) lazy: bool,
}

/// The arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The mount point
    pub(super) dir: PathBuf,
    /// Print the raw JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The arguments of `verify` and `sync`.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    /// The mount point
    pub(super) dir: PathBuf,
    /// Compare names and stamps only: faster, but misses corrupt content
    #[arg(long)]
    pub(super) quick: bool,
    /// Print the report as JSON, without progress
    #[arg(long)]
    pub(super) json: bool,
}

/// The arguments of `sync`.
#[derive(Debug, Args)]
struct SyncArgs {
    #[command(flatten)]
    job: JobArgs,
    /// First give targets that were wiped, and have lost their identity, the one that they had
    #[arg(long)]
    refill: bool,
}

/// The arguments of `forget`.
#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The store's id, or its location as the status shows it
    pub(super) target: String,
    /// The mount point of the registry
    pub(super) dir: PathBuf,
}

/// The arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The repository's directory in a mount
    pub(super) dir: PathBuf,
    /// Show this many versions; 0 shows all. Each one that is shown costs a read
    #[arg(short, long, default_value_t = 20, value_name = "N")]
    pub(super) number: usize,
    /// Print an array of objects, with times in RFC 3339
    #[arg(long)]
    pub(super) json: bool,
}

/// The arguments of `tag`.
#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// The repository's directory in a mount
    pub(super) dir: PathBuf,
    /// The tag: letters, digits, '-', '_' and '.'
    pub(super) tag: String,
    /// The version: its name, a beginning that no other version has, or a tag. Default: the newest
    pub(super) version: Option<String>,
}

/// The arguments of `diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The repository's directory in a mount
    pub(super) dir: PathBuf,
    /// The earlier version: its name, a beginning that no other version has, or a tag
    #[arg(value_name = "A")]
    pub(super) from: String,
    /// The later version
    #[arg(value_name = "B")]
    pub(super) to: String,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Also write an object below .atlasfs/probe to each target, and remove it. Shows whether the
    /// target is writable and whether conditional writes work
    #[arg(long)]
    write: bool,
    /// Deadline of each target
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = units::timeout)]
    timeout: Duration,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Parses a command line.
pub(super) fn parse(argv: Vec<OsString>) -> Result<Request, Refusal> {
    let helped = options::translate(argv).map_err(Refusal::Line)?;
    if helped.fake {
        return Ok(Request::Nothing);
    }
    let mut argv = helped.argv;
    if argv.get(1).is_some_and(|command| command == "mount") {
        argv = options::expand(argv, &mount_flags(), helped.sloppy).map_err(Refusal::Line)?;
    }
    let cli = Cli::try_parse_from(argv).map_err(Refusal::Clap)?;
    match cli.command {
        Command::Mount(args) => args
            .settings()
            .map(|settings| Request::Mount(Box::new(settings)))
            .map_err(Refusal::Line),
        Command::Unmount(args) => Ok(Request::Unmount(args)),
        Command::Status(args) => Ok(Request::Status(args)),
        Command::Verify(args) => Ok(Request::Job("verify", args)),
        Command::Sync(SyncArgs { job, refill }) => {
            let task = if refill { "sync refill" } else { "sync" };
            Ok(Request::Job(task, job))
        }
        Command::Adopt { url } => {
            mount::check_url("adopt", &url).map_err(Refusal::Line)?;
            Ok(Request::Adopt(url))
        }
        Command::Forget(args) => Ok(Request::Forget(args)),
        Command::History(args) => Ok(Request::History(args)),
        Command::Tag(args) => Ok(Request::Tag(args)),
        Command::Diff(args) => Ok(Request::Diff(args)),
        Command::Check(args) => Ok(Request::Check(CheckSettings {
            selection: args.selection.check().map_err(Refusal::Line)?,
            write: args.write,
            timeout: args.timeout,
            json: args.json,
        })),
        Command::Help { topic } => help::on(topic.as_deref(), Cli::command())
            .map(Request::Help)
            .map_err(Refusal::Line),
        Command::Daemon { dir: _ } => Ok(Request::Daemon),
    }
}

/// Returns the end of a command's help: an example, and the exit codes.
fn example(line: &str) -> String {
    format!("Example:\n  {line}\n\n{}", exit::HELP)
}

fn mount_flags() -> Vec<options::Flag> {
    let cli = Cli::command();
    let mount = cli.find_subcommand("mount");
    mount
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|arg| {
            Some(options::Flag {
                name: arg.get_long()?.to_owned(),
                short: arg.get_short(),
                takes_value: arg.get_action().takes_values(),
            })
        })
        .collect()
}
