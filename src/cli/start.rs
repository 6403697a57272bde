//! From settings to a file system: loads the configuration, and opens and checks the targets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::settings::MountSettings;
use super::topology::{self, StartError, known_folders, remember_folders};
use crate::fs::Fs;
use crate::registry::{
    self, Durability, Event, Level, Registry, Replica, ReplicaSet, ReplicaSets, StateDir, TargetId,
    WallClock,
};
use crate::store::{Failure, Kind, Location, Role, Target};

/// The longest wait for the check whether the registry honours conditions. 1 s: five requests to a
/// store on another continent.
const CONDITIONS_TIMEOUT: Duration = Duration::from_secs(1);

/// A file system that can be mounted.
#[derive(Debug)]
pub struct Started {
    /// The file system.
    pub fs: Arc<Fs>,
    /// The source that `mount` shows: the registry's URL without secrets.
    pub source: String,
    /// Warnings about targets that are out while the mount works. One line each.
    pub warnings: Vec<String>,
}

/// Makes the file system for the settings. Call it inside the runtime.
///
/// # Errors
///
/// [`StartError`] for a configuration that can't be loaded, a target that can never work as
/// configured, a state directory in use, and when every target refuses.
pub async fn start(settings: &MountSettings) -> Result<Started, StartError> {
    let topology = topology::load(&settings.selection)?;
    let mut targets = Targets {
        opened: Vec::new(),
        folders: known_folders(&settings.state_dir),
    };
    let named = topology.repos.iter().map(|repo| {
        let replica_set = targets.replica_set(&repo.registry, &repo.backups)?;
        Ok((repo.name.clone(), replica_set))
    });
    let named = named.collect::<Result<Vec<_>, StartError>>()?;
    let others = match &topology.others {
        Some((registry, backups)) => Some(targets.replica_set(registry, backups)?),
        None => None,
    };
    let replica_sets = ReplicaSets::new(named, others);
    check_durability(settings.registry.durability, &replica_sets)?;
    let mut warnings = topology.warnings;
    warnings.extend(try_targets(&replica_sets, &targets, settings).await?);
    let dir = settings.dir.display();
    let holder = format!("the mount on {dir} (process {})", std::process::id());
    let state = StateDir::open(&settings.state_dir, &holder).map_err(StartError::new)?;
    if let Err(error) = remember_folders(&settings.state_dir, &targets.used()) {
        tracing::warn!("can't record the target folders: {error}");
    }
    let source = replica_sets
        .open()
        .first()
        .map(|replica_set| replica_set.registry.url());
    let source = source.unwrap_or("atlasfs").to_owned();
    let registry = Registry::open(
        replica_sets,
        settings.registry.clone(),
        state,
        WallClock::default(),
    );
    let registry = registry.map_err(StartError::new)?;
    registry.start();
    if !settings.fs.read_only {
        let end = Instant::now() + CONDITIONS_TIMEOUT;
        for (target, failure) in registry.try_conditions(end).await {
            let (url, why) = (target.url(), &failure.reason);
            let warning =
                format!("target {url} refuses operations that pushes and deletions need: {why}");
            // A target that refuses every request already has its warning.
            if !warnings.iter().any(|warning| warning.contains(url)) {
                warnings.push(warning);
            }
        }
    }
    let event = Event::new(Level::Info, "mount", format!("{source} on {dir}"));
    registry.report(
        event
            .with("durability", settings.registry.durability.as_str())
            .with("read_only", settings.fs.read_only),
    );
    let mount = registry::Mount {
        dir: dir.to_string(),
        started: SystemTime::now(),
        read_only: settings.fs.read_only,
    };
    let fs = Fs::new(registry, settings.fs, mount);
    Ok(Started {
        fs,
        source,
        warnings,
    })
}

/// The targets opened so far. A location that several repositories name is one target.
struct Targets {
    opened: Vec<(Location, Arc<Replica>)>,
    /// The folders that earlier mounts have used.
    folders: BTreeSet<PathBuf>,
}

impl Targets {
    fn replica_set(
        &mut self,
        registry: &Location,
        backups: &[Location],
    ) -> Result<ReplicaSet, StartError> {
        let registry = self.open(registry, Role::Registry)?;
        let backups = backups.iter().enumerate();
        let backups = backups.map(|(place, backup)| self.open(backup, Role::Backup(place)));
        Ok(ReplicaSet {
            registry,
            backups: backups.collect::<Result<_, _>>()?,
        })
    }

    fn open(&mut self, location: &Location, role: Role) -> Result<Arc<Replica>, StartError> {
        let location = self.with_past(location);
        let known = self.opened.iter().find(|(known, _)| *known == location);
        if let Some((_, target)) = known {
            return Ok(Arc::clone(target));
        }
        let env = |name: &str| std::env::var(name).ok();
        let target = Target::open(role, &location, &env)
            .map_err(|failure| StartError(failure.reason.clone()))?;
        let id = TargetId(self.opened.len());
        let target = Arc::new(Replica::new(id, target));
        self.opened.push((location, Arc::clone(&target)));
        Ok(target)
    }

    /// Marks a folder that an earlier mount has used.
    fn with_past(&self, location: &Location) -> Location {
        let mut location = location.clone();
        if let Location::File(folder) = &mut location {
            folder.known = self.folders.contains(&folder.dir);
        }
        location
    }

    /// Returns the folders that are targets and exist now.
    fn used(&self) -> BTreeSet<PathBuf> {
        let folders = self
            .opened
            .iter()
            .filter_map(|(location, _)| match location {
                Location::File(folder) => Some(&folder.dir),
                _ => None,
            });
        folders
            .filter(|dir| dir.join(".atlasfs").is_dir())
            .cloned()
            .collect()
    }

    /// Tells whether a target refuses for good. A previously used folder returns when its disk is
    /// mounted.
    fn refuses_for_good(&self, target: &Replica, failure: &Failure) -> bool {
        let mut opened = self.opened.iter();
        let is_away = failure.kind == Kind::StoreMissing
            && opened.any(|(location, other)| match location {
                Location::File(folder) => folder.known && other.id == target.id,
                _ => false,
            });
        refuses(failure) && !is_away
    }
}

/// Refuses a durability that no push could ever satisfy.
fn check_durability(durability: Durability, replica_sets: &ReplicaSets) -> Result<(), StartError> {
    let on_cloud = replica_sets.unsupported().next().is_some();
    match durability {
        Durability::Registry | Durability::All if on_cloud => Err(StartError(format!(
            "--durability {durability} needs the registry, and this version can't reach atlas \
             cloud: set schema.repo.url, or --registry, to a store of your own"
        ))),
        _ => Ok(()),
    }
}

/// Checks every target. A mount starts unless all of them refuse for good.
async fn try_targets(
    replica_sets: &ReplicaSets,
    opened: &Targets,
    settings: &MountSettings,
) -> Result<Vec<String>, StartError> {
    let deadline = Instant::now() + settings.registry.metadata;
    let targets = replica_sets.targets();
    let probes = targets.iter().map(|target| async move {
        let probed = target.ask(|target| target.probe(deadline)).await;
        Some((target, probed.err()?))
    });
    let failed: Vec<_> = futures::future::join_all(probes)
        .await
        .into_iter()
        .flatten()
        .collect();
    let unsupported = replica_sets.unsupported();
    let unsupported = unsupported.filter_map(|target| Some((target, target.unsupported()?)));
    let refusals = failed
        .iter()
        .filter(|(target, failure)| opened.refuses_for_good(target, failure));
    if refusals.count() == targets.len() {
        let failed = failed.iter().map(|(target, failure)| (*target, failure));
        let reasons: Vec<String> = unsupported
            .chain(failed)
            .map(|(target, failure)| format!("{}: {}", target.url(), failure.reason))
            .collect();
        return Err(StartError(format!(
            "no target can be used: {}",
            reasons.join("; ")
        )));
    }
    let alone = unsupported.map(|(_, failure)| {
        let backups = match targets.len() {
            1 => "its backup".to_owned(),
            many => format!("its {many} other targets"),
        };
        format!("{}; until then the mount uses {backups}", failure.reason)
    });
    let out = failed.iter().map(|(target, failure)| {
        let what = match failure.kind {
            Kind::StoreMissing => "is missing; the mount continues without it until it returns",
            _ if refuses(failure) => "refuses requests until that is fixed",
            _ => "has an outage; the mount continues without it until it recovers",
        };
        format!("target {} {what}: {}", target.url(), failure.reason)
    });
    Ok(alone.chain(out).collect())
}

/// Tells whether a failure is a refusal, and not an outage.
fn refuses(failure: &Failure) -> bool {
    match failure.kind {
        Kind::Denied | Kind::Invalid | Kind::NotFound | Kind::StoreMissing | Kind::NoSpace => true,
        Kind::Conflict | Kind::Unreachable | Kind::Busy | Kind::Corrupt | Kind::TooBig => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    #[test]
    fn a_target_without_credentials_is_opened_and_refuses() {
        let env = |_: &str| None;
        let bucket = parse_target("s3://bucket/prefix?region=us-east-1").unwrap();
        let target = Target::open(Role::Registry, &bucket, &env).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let failure = runtime.unwrap().block_on(async {
            target
                .probe(Instant::now() + std::time::Duration::from_secs(1))
                .await
        });
        let failure = failure.unwrap_err();
        assert!(refuses(&failure), "{failure}");
        assert!(failure.reason.contains("AWS_ACCESS_KEY_ID"), "{failure}");
    }
}
