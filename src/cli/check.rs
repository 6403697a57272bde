//! `atlasfs check`: checks all targets at the same time, without a mount.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::exit::Exit;
use super::settings::CheckSettings;
use super::table::columns;
use super::targets::Targets;
use super::topology::{self, Topology};
use super::{complain, print};
use crate::model::{ArtifactId, Item, RepoName};
use crate::store::{Failure, Kind, Role, Target};

/// The largest artifact that is read as a sample, in bytes.
const MAX_SAMPLE_BYTES: u64 = 64 << 20;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CheckOutcome {
    Yes,
    No,
    /// The check did not run; the text gives the reason.
    NotTried(&'static str),
}

impl CheckOutcome {
    fn as_str(&self) -> &str {
        match self {
            CheckOutcome::Yes => "yes",
            CheckOutcome::No => "no",
            CheckOutcome::NotTried(why) => why,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            CheckOutcome::Yes => json!(true),
            CheckOutcome::No => json!(false),
            CheckOutcome::NotTried(_) => Value::Null,
        }
    }
}

/// The checks of one target.
#[derive(Debug)]
struct TargetCheck {
    role: Role,
    url: String,
    reachable: CheckOutcome,
    readable: CheckOutcome,
    writable: CheckOutcome,
    conditional: CheckOutcome,
    latency: Option<Duration>,
    /// The failure, as the target reports it.
    failure: Option<Failure>,
}

/// Checks every target, and prints the results.
pub(super) fn check(settings: &CheckSettings) -> Exit {
    let findings = match topology::load(&settings.selection) {
        Ok(topology) => try_all(&topology, settings),
        Err(error) => Err(error.to_string()),
    };
    match findings {
        Ok(findings) => {
            match settings.json {
                true => print(&format!("{:#}", to_json(&findings))),
                false => print(table(&findings).trim_end()),
            }
            verdict(&findings)
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn try_all(topology: &Topology, settings: &CheckSettings) -> Result<Vec<TargetCheck>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot begin: {error}"))?;
    let targets = Targets::open(topology, None, !settings.write).map_err(|error| error.0)?;
    let findings = runtime.block_on(async {
        let begun = Instant::now();
        // A registry of another kind is a finding, too.
        let _ = targets.identify(begun + settings.timeout / 2).await;
        let (checks, end) = (targets.with_roles(), begun + settings.timeout);
        let checks =
            checks.map(|(role, replica)| try_one(role, replica.target(), settings.write, end));
        futures::future::join_all(checks).await
    });
    // Don't wait for a hung check.
    runtime.shutdown_background();
    Ok(findings)
}

async fn try_one(role: Role, target: &Target, write: bool, end: Instant) -> TargetCheck {
    let mut finding = TargetCheck {
        role,
        url: target.url().to_owned(),
        reachable: CheckOutcome::NotTried("-"),
        readable: CheckOutcome::NotTried("-"),
        writable: CheckOutcome::NotTried("-"),
        conditional: CheckOutcome::NotTried("-"),
        latency: None,
        failure: None,
    };
    let tried = try_target(target, &mut finding, write, end).await;
    finding.failure = tried.err();
    finding
}

async fn try_target(
    target: &Target,
    finding: &mut TargetCheck,
    write: bool,
    end: Instant,
) -> Result<(), Failure> {
    if let Some(failure) = target.unsupported() {
        return Err(failure.clone());
    }
    let begun = Instant::now();
    let probed = target.probe(end).await;
    finding.latency = Some(begun.elapsed());
    // A target that refuses is reachable; a target without a request may not be.
    finding.reachable = match &probed {
        Err(failure) if failure.is_outage() => CheckOutcome::No,
        Err(failure) if failure.unasked || failure.kind == Kind::Invalid => {
            CheckOutcome::NotTried("-")
        }
        _ => CheckOutcome::Yes,
    };
    if finding.reachable == CheckOutcome::Yes {
        finding.readable = CheckOutcome::No;
    }
    probed?;
    let read = read_one(target, end).await;
    // A mount with another key only reads, and takes the content of backups for damaged.
    let refusal = target.write_refusal();
    if refusal.is_some() {
        finding.writable = CheckOutcome::No;
    }
    finding.readable = match read.map_err(|failure| refusal.clone().unwrap_or(failure))? {
        true => CheckOutcome::Yes,
        false => CheckOutcome::NotTried("nothing there"),
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if !write {
        finding.writable = CheckOutcome::NotTried("try --write");
        finding.conditional = CheckOutcome::NotTried("try --write");
        return Ok(());
    }
    finding.writable = CheckOutcome::No;
    target.round_trip(end).await?;
    finding.writable = CheckOutcome::Yes;
    finding.conditional = match target.try_conditions(end).await?.honours_conditions {
        true => CheckOutcome::Yes,
        false => CheckOutcome::No,
    };
    Ok(())
}

/// Reads one artifact; `false` if there is none.
async fn read_one(target: &Target, end: Instant) -> Result<bool, Failure> {
    let (repos, _) = target.repos(end).await?;
    for repo in repos {
        let repo: RepoName = repo;
        let listing = target.list(&repo, end).await?;
        let mut items = listing.items.into_keys();
        let first: Option<Item> = items.next();
        if let Some(item) = first {
            let id = ArtifactId { repo, item };
            target.get(&id, MAX_SAMPLE_BYTES, end).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn to_json(findings: &[TargetCheck]) -> Value {
    let findings = findings.iter().map(|finding| {
        json!({
            "role": finding.role.to_string(),
            "url": finding.url,
            "reachable": finding.reachable.to_json(),
            "readable": finding.readable.to_json(),
            "writable": finding.writable.to_json(),
            "conditional_writes": finding.conditional.to_json(),
            "latency_ms": finding.latency.map(|latency| latency.as_millis()),
            "error": finding.failure.as_ref().map(|failure| &failure.reason),
            "fix": fix(finding),
        })
    });
    json!({ "targets": findings.collect::<Vec<_>>() })
}

fn table(findings: &[TargetCheck]) -> String {
    let head = [
        "TARGET",
        "URL",
        "REACHABLE",
        "READABLE",
        "WRITABLE",
        "CONDITIONAL",
        "LATENCY",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(findings.iter().map(|finding| {
        [
            finding.role.to_string(),
            finding.url.clone(),
            finding.reachable.as_str().to_owned(),
            finding.readable.as_str().to_owned(),
            finding.writable.as_str().to_owned(),
            finding.conditional.as_str().to_owned(),
            finding.latency.map_or_else(
                || "-".into(),
                |latency| format!("{} ms", latency.as_millis()),
            ),
        ]
    }));
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = columns(&mut out, &rows);
    for finding in findings {
        let Some(fix) = fix(finding) else { continue };
        let wrong = match &finding.failure {
            // The reason already contains the advice.
            Some(failure) if failure.fix.is_some() => failure.reason.clone(),
            Some(failure) => format!("{}; {fix}", failure.reason),
            None => fix,
        };
        out.push_str(&format!("{}: {wrong}\n", finding.url));
    }
    out
}

/// Returns advice on the failure of a target.
fn fix(finding: &TargetCheck) -> Option<String> {
    let Some(failure) = &finding.failure else {
        return (finding.conditional == CheckOutcome::No && finding.role == Role::Registry).then(|| {
            "it ignores conditional writes: two mounts can overwrite each other; use another store \
             as the registry, and this one as a backup"
                .to_owned()
        });
    };
    if failure.fix.is_some() {
        return failure.fix.clone();
    }
    let asked = match (&finding.readable, &finding.writable) {
        (CheckOutcome::Yes | CheckOutcome::NotTried("nothing there"), _) => {
            "writing and deleting below .atlasfs/ and the repositories"
        }
        _ => "listing and reading",
    };
    let says = |what: &str| failure.reason.contains(what);
    // If the target could not be opened, the reason already gives the cause.
    let opened = !failure.reason.starts_with("cannot open ");
    Some(match failure.kind {
        Kind::Denied | Kind::Invalid if !opened => "correct the url or the environment".to_owned(),
        Kind::Denied if failure.unasked => "correct the credentials in the environment".to_owned(),
        Kind::Unreachable
            if ["certificate", "http meant", "want https"]
                .iter()
                .any(|tls| says(tls)) =>
        {
            "correct the TLS settings of the store or of this machine".to_owned()
        }
        Kind::Denied => format!("grant these credentials permission for {asked}"),
        Kind::StoreMissing => {
            "create the bucket, container or folder, or correct its name".to_owned()
        }
        Kind::WrongStore => "correct the url".to_owned(),
        Kind::Unreachable | Kind::Busy => {
            "check that it runs, and check the endpoint, the network and the proxy settings"
                .to_owned()
        }
        Kind::NoSpace => "make room".to_owned(),
        Kind::TooBig => "shorten or remove that object".to_owned(),
        Kind::Corrupt => {
            "check the artifact's copies on other targets, then run atlasfs sync".to_owned()
        }
        Kind::Invalid | Kind::NotFound | Kind::Conflict => {
            "correct the url: its region, endpoint or prefix".to_owned()
        }
    })
}

/// Returns the exit code: whether every target is usable.
fn verdict(findings: &[TargetCheck]) -> Exit {
    let is_well = |finding: &&TargetCheck| finding.failure.is_none();
    match findings.iter().filter(is_well).count() {
        well if well == findings.len() => Exit::Success,
        0 => Exit::Failure,
        _ => Exit::Degraded,
    }
}
