//! The arguments of `mount`, and the settings that result from them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::exit;
use super::super::settings::{
    FallbackReason, LogFormat, LogLevel, LogSettings, MountSettings, Selection, default_state_dir,
};
use super::units;
use crate::config::Secret;
use crate::fs::FsSettings;
use crate::fuse::Owner;
use crate::registry::{self, Durability, FallbackOn};

/// The choice of registries and backups.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// The configuration: file://atlas.hcl
    #[arg(short, long, value_name = "URL", help_heading = "What to mount")]
    config: Option<String>,
    /// The environment in the configuration
    #[arg(long, value_name = "NAME", help_heading = "What to mount")]
    env: Option<String>,
    /// The value of an input variable of the configuration; may be repeated
    #[arg(long, value_name = "NAME=VALUE", help_heading = "What to mount")]
    var: Vec<String>,
    /// The registry's URL: file://, s3://, gs://, azblob:// or oci://. With a configuration it
    /// holds for the repositories without a url. Without either, a folder of this user's is the
    /// registry
    #[arg(long, value_name = "URL", help_heading = "What to mount")]
    registry: Option<String>,
    /// A backup's URL; may be repeated, and the order is the order of reads
    #[arg(long, value_name = "URL", help_heading = "What to mount")]
    backup: Vec<String>,
}

impl SelectionArgs {
    /// Checks the URLs, which clap can't do.
    pub(super) fn check(self) -> Result<Selection, String> {
        let registry = self.registry.iter().map(|url| ("--registry", url));
        let backups = self.backup.iter().map(|url| ("--backup", url));
        for (flag, url) in registry.chain(backups) {
            check_url(flag, url)?;
        }
        Ok(Selection {
            config: self.config,
            env: self.env,
            vars: self.var.into_iter().map(Secret::new).collect(),
            registry: self.registry,
            backups: self.backup,
        })
    }
}

/// The arguments of `mount`.
#[derive(Debug, Args)]
#[command(args_override_self = true, after_help = exit::HELP)]
pub(super) struct MountArgs {
    /// The mount point: an empty directory
    dir: PathBuf,

    /// Stay in the foreground, and log to stderr
    #[arg(short, long)]
    foreground: bool,

    #[command(flatten)]
    selection: SelectionArgs,

    /// When close() succeeds: any (one target has it), registry, or all. Default any: it is
    /// Atlas's rule, and one outage then stops nobody
    #[arg(
        long,
        default_value = "any",
        value_name = "RULE",
        hide_default_value = true,
        help_heading = "Pushing"
    )]
    durability: Durability,
    /// Largest artifact. Default 16MiB: real schemas stay far below it, and a dump copied in by
    /// mistake does not
    #[arg(long, default_value = "16MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Pushing")]
    max_size: u64,
    /// Push HCL without checking it first. Default: checked, since a broken document stops whoever
    /// applies it
    #[arg(long, help_heading = "Pushing")]
    no_validate: bool,
    /// Bound of the journal, in bytes of pushes that some target has not got, or that failed. When
    /// it is full, close() says ENOSPC. Default 1GiB: a day's outage of a busy site
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Pushing")]
    journal_size: u64,
    /// Let rm delete an artifact from every target. Default: refused, since backups can't bring
    /// back what was deleted from them too
    #[arg(long, help_heading = "Pushing")]
    allow_delete: bool,
    /// Refuse every write. Default: writable
    #[arg(long, help_heading = "Pushing")]
    read_only: bool,
    /// How many files may be open for writing. Default 512: each holds a file on local disk, and
    /// most systems allow a process 1024
    #[arg(
        long,
        default_value = "512",
        value_name = "COUNT",
        hide_default_value = true,
        help_heading = "Pushing"
    )]
    max_open_files: usize,
    /// Bound of what editors and tools keep beside the artifacts, in all: swap files, backups,
    /// files on their way. Beyond it a write says ENOSPC. Default 256MiB: sixteen of the largest
    /// artifacts
    #[arg(long, default_value = "256MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "This machine")]
    scratch_size: u64,
    /// Bound of what artifacts take that are being written, in all. Beyond it a write says ENOSPC.
    /// Default 1GiB: 64 of the largest at once
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "This machine")]
    staging_size: u64,

    /// Deadline of names and attributes. Default 2s: a shell that hangs longer gets interrupted
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    metadata_timeout: Duration,
    /// Deadline of a read, over all targets. Default 5s: time to ask the registry and a backup
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    read_timeout: Duration,
    /// Deadline of a push, over all targets. Default 15s: several megabytes on a slow line
    #[arg(long, default_value = "15s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    push_timeout: Duration,
    /// After how many outages in a row a target is skipped, and probed in the background until it
    /// answers; 0 for never. Default 3: one or two are a hiccup, and from the third on every read
    /// and push would only wait for the next
    #[arg(
        long,
        default_value = "3",
        value_name = "COUNT",
        hide_default_value = true,
        help_heading = "Deadlines"
    )]
    breaker: u32,
    /// After how long without an answer of the registry a read asks the backups as well; 0 for
    /// never. Default 250ms: a healthy store is faster by far, and nobody minds a quarter of a
    /// second
    #[arg(long, default_value = "250ms", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Deadlines")]
    hedge: Duration,
    /// How often all targets are compared, and each is given what it lacks; 0 for never. It is done
    /// soon after mounting and when a target is back, too. Default 1h: the journal is quicker, and
    /// this is for what no journal knows
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Pushing")]
    repair_interval: Duration,

    /// For how long names, sizes and stamps are fresh. Default 1s: ls stays fast, and what somebody
    /// else pushes shows at once to a person
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Reading")]
    ttl: Duration,
    /// Bound of the cache in memory. Default 64MiB: thousands of schemas
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Reading")]
    cache_size: u64,
    /// Bound of the cache on disk, which outlasts restarts: a mount that starts while every network
    /// is down serves what it holds. 0 for none. Default 1GiB: every version of every schema of a
    /// large site, and nothing that a disk would feel
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Reading")]
    disk_cache_size: u64,
    /// Which answers, beside outages, send a read on to the backups: not-found, denied, or both
    /// with a comma between. Default none: what was deleted would come back from the backups
    #[arg(
        long,
        value_name = "ANSWERS",
        value_delimiter = ',',
        help_heading = "Reading"
    )]
    fallback_on: Vec<FallbackReason>,

    /// Where journal and staging files lie, for this mount alone. Default a folder for each
    /// mount point below $XDG_STATE_HOME/atlasfs/mounts, or ~/.local/state/atlasfs/mounts, and for
    /// root /var/lib/atlasfs/mounts: it has to outlast restarts, and to be the same at boot as in a
    /// shell
    #[arg(long, value_name = "DIR", help_heading = "This machine")]
    state_dir: Option<PathBuf>,
    /// Where the cache on disk lies; several mounts may share it. Default `cache` in the state
    /// directory
    #[arg(long, value_name = "DIR", help_heading = "This machine")]
    cache_dir: Option<PathBuf>,
    /// Let other users in, as far as the permission bits go. Default: only the user who mounts,
    /// since everybody acts with that user's credentials
    #[arg(long, help_heading = "This machine")]
    allow_other: bool,
    /// Owner of all files. Default: the user who mounts
    #[arg(long, value_name = "ID", help_heading = "This machine")]
    uid: Option<u32>,
    /// Group of all files. Default: that user's group
    #[arg(long, value_name = "ID", help_heading = "This machine")]
    gid: Option<u32>,

    /// error, warn, info, debug or trace. Default info: a line for each mount, push, fallback and
    /// failure, none for a read that simply works
    #[arg(
        long,
        default_value = "info",
        value_name = "LEVEL",
        hide_default_value = true,
        help_heading = "Log"
    )]
    log_level: LogLevel,
    /// text or json. Default text: people read it first
    #[arg(
        long,
        default_value = "text",
        value_name = "FORMAT",
        hide_default_value = true,
        help_heading = "Log"
    )]
    log_format: LogFormat,
    /// The file to append to. Default: stderr in the foreground; in the background syslog, or the
    /// file `log` in the state directory where there is none
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    log_file: Option<PathBuf>,

    /// Any flag above without its dashes, as fstab has it: -o ttl=5s,read-only. The usual options
    /// of mount(8) are taken as well
    #[arg(
        short = 'o',
        value_name = "KEY=VALUE,...",
        help_heading = "This machine"
    )]
    options: Vec<String>,
}

impl MountArgs {
    /// Turns the arguments into settings. No message repeats a value that may be a secret.
    pub(super) fn settings(self) -> Result<MountSettings, String> {
        let this_process = Owner::of_this_process();
        // A background mount changes its working directory to `/`.
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let dir = absolute(self.dir)?;
        Ok(MountSettings {
            dir: dir.clone(),
            foreground: self.foreground,
            selection: self.selection.check()?,
            registry: registry::Settings {
                durability: self.durability,
                metadata: self.metadata_timeout,
                read: self.read_timeout,
                push: self.push_timeout,
                ttl: self.ttl,
                max_size: self.max_size,
                cache_bytes: self.cache_size,
                disk_cache_bytes: self.disk_cache_size,
                cache_dir: self.cache_dir.map(absolute).transpose()?,
                journal_bytes: self.journal_size,
                breaker: self.breaker,
                hedge: self.hedge,
                repair: self.repair_interval,
                read_only: self.read_only,
                validate: !self.no_validate,
                fallback_on: FallbackOn {
                    not_found: self.fallback_on.contains(&FallbackReason::NotFound),
                    denied: self.fallback_on.contains(&FallbackReason::Denied),
                },
            },
            fs: FsSettings {
                read_only: self.read_only,
                allow_delete: self.allow_delete,
                max_writers: self.max_open_files,
                temporary_bytes: self.scratch_size,
                staged_bytes: self.staging_size,
            },
            state_dir: absolute(self.state_dir.unwrap_or_else(|| default_state_dir(&dir)))?,
            allow_other: self.allow_other,
            owner: Owner {
                uid: self.uid.unwrap_or(this_process.uid),
                gid: self.gid.unwrap_or(this_process.gid),
            },
            log: LogSettings {
                level: self.log_level.0,
                format: self.log_format,
                file: self.log_file.map(absolute).transpose()?,
            },
        })
    }
}

fn check_url(flag: &str, url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!(
            "{flag} wants a URL, such as file:///srv/registry or s3://bucket/prefix"
        ));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        None => Ok(()),
        Some((_, host)) => Err(format!(
            "{flag} {scheme}://…@{host} holds a user or password: credentials never come from the command line, but from the provider's standard places"
        )),
    }
}
