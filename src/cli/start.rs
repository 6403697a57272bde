//! From settings to a file system: loads the configuration, and opens and checks the targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::settings::MountSettings;
use super::targets::Targets;
use super::topology::{self, StartError};
use crate::fs::Fs;
use crate::registry::{
    self, Durability, Event, Level, Registry, ReplicaSets, StateRoot, TargetId, WallClock,
};
use crate::store::{Failure, Kind};

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
    /// Whether nothing can be written, by the user's choice or for want of a key.
    pub read_only: bool,
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
    let root = StateRoot::open(&settings.state_dir).map_err(StartError::new)?;
    let mut settings = settings.clone();
    let mut warnings = Vec::new();
    let mut refusal = None;
    let (targets, failed, deadline) = loop {
        let targets = Targets::open(&topology, Some(&root.stores()), settings.fs.read_only)?;
        let replica_sets = targets.replica_sets(&topology);
        check_durability(settings.registry.durability, &replica_sets)?;
        let deadline = Instant::now() + settings.registry.metadata;
        let identified = targets.identify(deadline).await?;
        warnings.extend(identified.warnings);
        match targets.write_refusal() {
            // Begin anew, so that nothing is written to a backup either.
            Some(failure) if !settings.fs.read_only => {
                warnings.push(format!("the mount is read-only: {}", failure.reason));
                refusal = Some(failure.reason);
                settings.fs.read_only = true;
                settings.registry.read_only = true;
            }
            _ => break (targets, identified.failed, deadline),
        }
    };
    let replica_sets = targets.replica_sets(&topology);
    warnings.extend(try_targets(&replica_sets, &targets, &failed, deadline).await?);
    let dir = settings.dir.display();
    let holder = format!("the mount on {dir} (process {})", std::process::id());
    let id = targets.first_registry();
    let id = id.ok_or_else(|| StartError::new("there is no registry to mount"))?;
    let state = root.of_registry(&id, &holder).map_err(StartError::new)?;
    root.take_over(&state, &replica_sets);
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
    for (url, failure) in targets.urls_of(&failed) {
        if failure.kind == Kind::Denied {
            let message = "the store refuses to say which one it is";
            let event = Event::new(Level::Warn, "denied", message).with("target", url);
            registry.report(event.with("reason", failure.to_string()));
        }
    }
    if let Some(reason) = &refusal {
        registry.report(Event::new(Level::Warn, "read-only", reason.clone()));
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
        read_only_reason: refusal,
    };
    let read_only = settings.fs.read_only;
    let fs = Fs::new(registry, settings.fs, mount);
    Ok(Started {
        fs,
        source,
        read_only,
        warnings,
    })
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
    unidentified: &BTreeMap<TargetId, Failure>,
    deadline: Instant,
) -> Result<Vec<String>, StartError> {
    let targets = replica_sets.targets();
    let probes = targets.iter().map(|target| async move {
        if let Some(failure) = unidentified.get(&target.id) {
            return Some((target, failure.clone()));
        }
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
        .filter(|(target, failure)| refuses(failure) && !opened.is_away(target.id, failure));
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
        if failure.kind == Kind::WrongStore {
            return format!("{}; the mount continues without it", failure.reason);
        }
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
        Kind::Denied
        | Kind::Invalid
        | Kind::NotFound
        | Kind::StoreMissing
        | Kind::WrongStore
        | Kind::NoSpace => true,
        Kind::Conflict | Kind::Unreachable | Kind::Busy | Kind::Corrupt | Kind::TooBig => false,
    }
}
