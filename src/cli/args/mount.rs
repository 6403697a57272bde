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
use crate::fs::{AuthorSetting, FsSettings};
use crate::fuse::Owner;
use crate::registry::{self, Durability, FallbackOn, log_folder};

/// The choice of registries and backups.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// The configuration: file://atlas.hcl
    #[arg(short, long, value_name = "URL", help_heading = "What to mount")]
    config: Option<String>,
    /// The environment in the configuration
    #[arg(long, value_name = "NAME", help_heading = "What to mount")]
    env: Option<String>,
    /// Set an input variable of the configuration; repeatable
    #[arg(long, value_name = "NAME=VALUE", help_heading = "What to mount")]
    var: Vec<String>,
    /// The registry's URL: file://, s3://, gs://, azblob:// or oci://. With a configuration, it
    /// serves the repositories without a url. Default without a configuration: a folder of this
    /// user
    #[arg(long, value_name = "URL", help_heading = "What to mount")]
    registry: Option<String>,
    /// A backup's URL; repeatable. Reads try the backups in this order
    #[arg(long, value_name = "URL", help_heading = "What to mount")]
    backup: Vec<String>,
    /// Sign every push with the first key of this file, and believe only signed ones. The file is
    /// private, and holds one or two keys, one a line: `openssl rand -hex 32` makes one. Default: no
    /// signatures, so anybody who can write to a store can push there
    #[arg(long, value_name = "FILE", help_heading = "What to mount")]
    stamp_key: Option<PathBuf>,
}

/// A background mount changes its working directory to `/`.
fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
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
            stamp_key: self.stamp_key.map(absolute).transpose()?,
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

    /// When close() succeeds: any (one target has the push), registry, or all. Default any: Atlas's
    /// rule, and one outage stops no push
    #[arg(
        long,
        default_value = "any",
        value_name = "RULE",
        hide_default_value = true,
        help_heading = "Pushing"
    )]
    durability: Durability,
    /// Size limit of an artifact. Default 16MiB: far above real schemas, and below most accidental
    /// dumps
    #[arg(long, default_value = "16MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Pushing")]
    max_size: u64,
    /// Push HCL without validating it first. Default: validate, since a broken document breaks
    /// every apply
    #[arg(long, help_heading = "Pushing")]
    no_validate: bool,
    /// Size limit of the journal, which holds failed pushes and those that some target lacks. When
    /// it is full, close() returns ENOSPC. Default 1GiB: a day's outage of a busy site
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Pushing")]
    journal_size: u64,
    /// The author that each push names, at most 95 bytes; '' for none. Default: the user of the
    /// writing process and this host, as in alice@build-7
    #[arg(long, value_name = "TEXT", help_heading = "Pushing")]
    author: Option<String>,
    /// Let rm delete an artifact from every target. Default: refuse, since no backup could restore
    /// it
    #[arg(long, help_heading = "Pushing")]
    allow_delete: bool,
    /// Refuse every write. Default: writable
    #[arg(long, help_heading = "Pushing")]
    read_only: bool,
    /// Limit of files open for writing. Default 512: each needs an open file on local disk, and
    /// most systems allow a process 1024
    #[arg(
        long,
        default_value = "512",
        value_name = "COUNT",
        hide_default_value = true,
        help_heading = "Pushing"
    )]
    max_open_files: usize,
    /// Size limit of all temporary files of editors and tools: swap files, backups, unfinished
    /// saves. Beyond it, a write returns ENOSPC. Default 256MiB: sixteen of the largest artifacts
    #[arg(long, default_value = "256MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "This machine")]
    scratch_size: u64,
    /// Size limit of all artifacts open for writing. Beyond it, a write returns ENOSPC. Default
    /// 1GiB: 64 of the largest at once
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "This machine")]
    staging_size: u64,

    /// Deadline of names and attributes. Default 2s: users interrupt a shell that hangs longer
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    metadata_timeout: Duration,
    /// Deadline of a read, over all targets. Default 5s: time to ask the registry and a backup
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    read_timeout: Duration,
    /// Deadline of a push, over all targets. Default 15s: several megabytes on a slow line
    #[arg(long, default_value = "15s", value_name = "TIME", value_parser = units::timeout, hide_default_value = true, help_heading = "Deadlines")]
    push_timeout: Duration,
    /// Consecutive outages after which the mount skips a target, and probes it in the background
    /// until it answers; 0 for never. Default 3: one or two may be a hiccup, and more would only
    /// delay every read and push
    #[arg(
        long,
        default_value = "3",
        value_name = "COUNT",
        hide_default_value = true,
        help_heading = "Deadlines"
    )]
    breaker: u32,
    /// Time without an answer of the registry after which a read also asks the backups; 0 for
    /// never. Default 250ms: a healthy store is far faster, and the delay is hardly noticeable
    #[arg(long, default_value = "250ms", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Deadlines")]
    hedge: Duration,
    /// How often to compare all targets, and copy to each what it lacks; 0 for never. This also
    /// happens soon after mounting and when a target returns. Default 1h: the journal is quicker,
    /// so this only repairs what no journal knows
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Pushing")]
    repair_interval: Duration,

    /// How long names, sizes and stamps stay fresh. Default 1s: ls stays fast, and other users'
    /// pushes appear almost at once
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = units::duration, hide_default_value = true, help_heading = "Reading")]
    ttl: Duration,
    /// Size limit of the memory cache. Default 64MiB: thousands of schemas
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Reading")]
    cache_size: u64,
    /// Size limit of the disk cache, which survives restarts: a mount that starts without a network
    /// serves from it. 0 for none. Default 1GiB: every version of every schema of a large site
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::size, hide_default_value = true, help_heading = "Reading")]
    disk_cache_size: u64,
    /// Answers, besides outages, that send a read to the backups: not-found, denied, or both
    /// separated by a comma. Default none: deleted artifacts would come back from the backups
    #[arg(
        long,
        value_name = "ANSWERS",
        value_delimiter = ',',
        help_heading = "Reading"
    )]
    fallback_on: Vec<FallbackReason>,

    /// Directory of the journals, caches and staging files of each registry. Default:
    /// $XDG_STATE_HOME/atlasfs, or ~/.local/state/atlasfs, and for root /var/lib/atlasfs: it survives
    /// restarts, and is the same at boot as in a shell
    #[arg(long, value_name = "DIR", help_heading = "This machine")]
    state_dir: Option<PathBuf>,
    /// Directory of the disk cache; several mounts may share it. Default: `cache` in the state
    /// directory
    #[arg(long, value_name = "DIR", help_heading = "This machine")]
    cache_dir: Option<PathBuf>,
    /// Let other users access the mount, within the permission bits. Default: only the mounting
    /// user, since all access uses that user's credentials
    #[arg(long, help_heading = "This machine")]
    allow_other: bool,
    /// Owner of all files. Default: the mounting user
    #[arg(long, value_name = "ID", help_heading = "This machine")]
    uid: Option<u32>,
    /// Group of all files. Default: the mounting user's group
    #[arg(long, value_name = "ID", help_heading = "This machine")]
    gid: Option<u32>,

    /// error, warn, info, debug or trace. Default info: a line for each mount, push, fallback and
    /// failure, but none for a normal read
    #[arg(
        long,
        default_value = "info",
        value_name = "LEVEL",
        hide_default_value = true,
        help_heading = "Log"
    )]
    log_level: LogLevel,
    /// text or json. Default text: easier to read
    #[arg(
        long,
        default_value = "text",
        value_name = "FORMAT",
        hide_default_value = true,
        help_heading = "Log"
    )]
    log_format: LogFormat,
    /// The file to append the log to. Default: stderr in the foreground; in the background syslog,
    /// or, without syslog, the file `log` in the state directory
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    log_file: Option<PathBuf>,

    /// Any flag above without its dashes, as in fstab: -o ttl=5s,read-only. The usual options of
    /// mount(8) work too
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
        let dir = absolute(self.dir)?;
        let state_dir = self.state_dir.map(absolute).transpose()?;
        let log_dir = state_dir.clone();
        let state_dir = state_dir.unwrap_or_else(default_state_dir);
        let log_dir = log_dir.unwrap_or_else(|| state_dir.join(log_folder(&dir)));
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
                author: author(self.author.as_deref())?,
            },
            state_dir,
            allow_other: self.allow_other,
            owner: Owner {
                uid: self.uid.unwrap_or(this_process.uid),
                gid: self.gid.unwrap_or(this_process.gid),
            },
            log: LogSettings {
                level: self.log_level.0,
                format: self.log_format,
                file: self.log_file.map(absolute).transpose()?,
                dir: log_dir,
            },
        })
    }
}

fn author(text: Option<&str>) -> Result<AuthorSetting, String> {
    match text.map(str::trim) {
        None => Ok(AuthorSetting::User),
        Some("") => Ok(AuthorSetting::None),
        Some(text) => {
            let author = text.parse().map(AuthorSetting::Fixed);
            author.map_err(|error| format!("--author: {error}"))
        }
    }
}

pub(super) fn check_url(flag: &str, url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!(
            "{flag} needs a URL, such as file:///srv/registry or s3://bucket/prefix"
        ));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        None => Ok(()),
        Some((_, host)) => Err(format!(
            "{flag} {scheme}://…@{host} holds a user or password: credentials come from the provider's standard places, never from the command line"
        )),
    }
}
