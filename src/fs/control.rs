//! The control files in `.atlasfs`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use bytes::Bytes;

use super::node::{ControlFile, Node};
use super::{Error, Fs, Result, lock};
use crate::registry::{Damaged, NotBegun, Open, Unpushed};

/// The directory of the failed pushes, in `.atlasfs`.
const UNPUSHED: &str = "unpushed";

/// The directory of the journal's damaged files, in `unpushed`.
const DAMAGED: &str = "damaged";

const CONTROL_FILES: [(&str, ControlFile); 4] = [
    ("status", ControlFile::Status),
    ("metrics", ControlFile::Metrics),
    ("events", ControlFile::Events),
    ("jobs", ControlFile::Jobs),
];

impl Fs {
    /// Finds a name in `.atlasfs`.
    pub(super) fn find_control(&self, name: &OsStr) -> Result<Node> {
        if name == UNPUSHED {
            return Ok(Node::KeptDir(String::new()));
        }
        let mut reports = CONTROL_FILES.iter();
        let report = reports.find(|(known, _)| name == *known);
        report
            .map(|(_, report)| Node::ControlFile(*report))
            .ok_or(Error::NotFound)
    }

    /// Lists `.atlasfs`.
    pub(super) fn list_control(&self) -> Vec<(OsString, Node)> {
        let reports = CONTROL_FILES.iter();
        let reports = reports.map(|(name, report)| (name.into(), Node::ControlFile(*report)));
        let unpushed = (UNPUSHED.into(), Node::KeptDir(String::new()));
        reports.chain([unpushed]).collect()
    }

    /// Renders a control file.
    pub(super) fn render(&self, report: ControlFile) -> Bytes {
        let text = match report {
            ControlFile::Status => {
                let status = self.registry.status(&self.mount);
                format!("{status:#}\n")
            }
            ControlFile::Metrics => {
                let inodes = lock(&self.nodes).len();
                let handles = lock(&self.handles).len();
                self.registry.metrics(Open { inodes, handles })
            }
            ControlFile::Events => self.registry.events(),
            ControlFile::Jobs => format!("{:#}\n", self.registry.job()),
        };
        text.into()
    }

    /// Handles a job request: `verify` or `sync`, optionally followed by ` quick`; `sync refill`;
    /// `stop`; or `forget` with the id of a store that is no target.
    pub(super) fn request_job(&self, data: &[u8]) -> Result<u32> {
        let text = std::str::from_utf8(data)
            .map_err(|_| Error::Invalid)?
            .trim();
        if text == "stop" {
            self.registry.stop_job();
        } else if let Some(store) = text.strip_prefix("forget ") {
            if self.registry.forget(store) == 0 {
                return Err(Error::NotFound);
            }
        } else {
            let job = text.parse().map_err(|_| Error::Invalid)?;
            let begun = self.registry.begin_job(job);
            begun.map_err(|refusal| match refusal {
                NotBegun::Busy => Error::Busy,
                NotBegun::ReadOnly => Error::ReadOnly,
            })?;
        }
        u32::try_from(data.len()).map_err(|_| Error::Invalid)
    }

    /// Lists a directory below `.atlasfs/unpushed`: the next segment of every path through it.
    pub(super) fn list_kept(&self, dir: &str) -> Vec<(OsString, Node)> {
        let mut entries = BTreeMap::new();
        let unpushed = self.registry.unpushed().into_iter();
        let unpushed = unpushed.map(|kept| (kept.path(), kept_node(&kept)));
        let damaged = self.registry.damaged().into_iter();
        let damaged = damaged
            .map(|Damaged { name, size, .. }| (join(DAMAGED, &name), Node::Damaged { name, size }));
        for (path, node) in unpushed.chain(damaged) {
            let Some(rest) = below(&path, dir) else {
                continue;
            };
            match rest.split_once('/') {
                Some((segment, _)) => {
                    let child = join(dir, segment);
                    entries.insert(segment.into(), Node::KeptDir(child));
                }
                None => {
                    entries.insert(rest.into(), node);
                }
            }
        }
        entries.into_iter().collect()
    }

    /// Finds a name below `.atlasfs/unpushed`.
    pub(super) fn find_kept(&self, dir: &str, name: &OsStr) -> Result<Node> {
        let mut entries = self.list_kept(dir).into_iter();
        let found = entries.find(|(entry, _)| entry == name);
        found.map(|(_, node)| node).ok_or(Error::NotFound)
    }
}

fn kept_node(kept: &Unpushed) -> Node {
    Node::Kept {
        when: kept.stamp.when,
        size: kept.stamp.size,
    }
}

fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    match dir {
        "" => Some(path),
        dir => path.strip_prefix(dir)?.strip_prefix('/'),
    }
}

fn join(dir: &str, segment: &str) -> String {
    match dir {
        "" => segment.into(),
        dir => format!("{dir}/{segment}"),
    }
}
