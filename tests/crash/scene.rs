//! The scenes: the targets, their failures, and the work of the programs.

use std::path::Path;
use std::process::Command;

use super::history::{Content, History};
use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run, until};
use super::store::{Store, flags, folders, plan, schema};
use super::support::server::Kind;

/// One action of a program.
#[derive(Debug, Clone)]
pub enum Step {
    /// cp.
    Copy(&'static str, String),
    /// dd, with an fsync before its close.
    Sync(&'static str, String),
    /// rm.
    Remove(&'static str),
}

/// A scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Three folders without failures.
    Folders,
    /// A close waits for all three.
    Durable,
    /// A backup's folder is gone until the restart.
    BackupGone,
    /// The registry's folder is gone until the restart.
    RegistryGone,
    /// The pushed artifact is deleted.
    Deletes,
    /// A bucket as the registry; a folder and another server's bucket as backups.
    Buckets,
    /// A start that replays the pending pushes of an earlier mount.
    Restart,
}

impl Scene {
    /// All scenes.
    pub const ALL: [Self; 7] = [
        Self::Folders,
        Self::Durable,
        Self::BackupGone,
        Self::RegistryGone,
        Self::Deletes,
        Self::Buckets,
        Self::Restart,
    ];

    /// Returns the scene's name in a command.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Makes the targets, all of them working.
    pub fn stores(self, home: &Home) -> Vec<Store> {
        match self {
            Self::Buckets => vec![
                Store::bucket(Kind::Moto),
                Store::folder(home, "backup-1"),
                Store::bucket(Kind::S3s),
            ],
            _ => folders(home),
        }
    }

    /// Returns the arguments of the mount.
    pub fn args(self, stores: &[Store]) -> Vec<String> {
        let mut args = flags(stores);
        args.push("--allow-delete".into());
        if self == Self::Durable {
            args.extend(["--durability".into(), "all".into()]);
        }
        args
    }

    fn gone(self) -> &'static [&'static str] {
        match self {
            Self::BackupGone => &["backup-2"],
            Self::RegistryGone => &["registry"],
            Self::Restart => &["registry", "backup-2"],
            _ => &[],
        }
    }

    /// Removes the folders that are gone in this scene.
    pub fn spoil(self, home: &Home) {
        self.gone()
            .iter()
            .for_each(|name| std::fs::rename(home.path(name), away(home, name)).unwrap());
    }

    /// Restores the removed folders.
    pub fn mend(self, home: &Home) {
        self.gone()
            .iter()
            .for_each(|name| std::fs::rename(away(home, name), home.path(name)).unwrap());
    }

    /// Returns the actions of the programs.
    pub fn steps(self) -> Vec<Step> {
        use Step::{Copy, Remove, Sync};
        match self {
            Self::Folders => vec![
                Copy("app/schema", schema("one")),
                Copy("app/schema", schema("two")),
                Copy("app/plans/p", plan("p", "one")),
                Sync("app/schema", schema("three")),
            ],
            Self::Deletes => vec![
                Copy("app/schema", schema("one")),
                Copy("app/plans/p", plan("p", "one")),
                Remove("app/schema"),
                Remove("app/plans/p"),
                Copy("app/schema", schema("two")),
            ],
            _ => vec![
                Copy("app/schema", schema("one")),
                Copy("app/schema", schema("two")),
                Copy("app/plans/p", plan("p", "one")),
            ],
        }
    }
}

fn away(home: &Home, name: &str) -> std::path::PathBuf {
    home.path(&format!("{name}-away"))
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Copy(name, _) | Self::Sync(name, _) | Self::Remove(name) => name,
        }
    }

    fn content(&self) -> Content {
        match self {
            Self::Copy(_, content) | Self::Sync(_, content) => Some(content.clone().into_bytes()),
            Self::Remove(_) => None,
        }
    }

    fn command(&self, home: &Home, at: &Path) -> Command {
        let source = self.content().map(|content| home.file("source", content));
        let source = source.unwrap_or_default();
        let script = match self {
            Self::Copy(..) => r#"exec cp -- "$1" "$2""#,
            Self::Sync(..) => r#"exec dd status=none conv=fsync "if=$1" "of=$2""#,
            Self::Remove(..) => r#"exec rm -- "$2""#,
        };
        bash(script, [&source, at])
    }
}

/// Runs the programs for as long as the daemon lives.
pub fn play(steps: &[Step], home: &Home, mounted: &Mounted, history: &mut History) {
    let _ = run(Command::new("mkdir").arg("-p").arg(mounted.path("app")));
    for step in steps {
        if !mounted.lives() {
            return;
        }
        history.attempt(step.name(), step.content());
        let ran = run(&mut step.command(home, &mounted.path(step.name())));
        if ran.code == Some(0) {
            history.acknowledge(step.name());
        } else {
            // The kernel reports the end of the connection before the last thread has ended.
            until(&format!("it dies, although {step:?} failed: {ran}"), || {
                (!mounted.lives()).then_some(())
            });
            return;
        }
    }
}
