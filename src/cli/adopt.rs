//! `atlasfs adopt`: a person says that a store is free for another use.

use std::time::Duration;

use tokio::time::Instant;

use super::exit::Exit;
use super::{complain, print};
use crate::config;
use crate::store::{
    Condition, Failure, Identity, Kind, Location, Role, StoreId, StoreRole, Target,
};

/// The time limit of the command: a few requests to a store on another continent.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Takes a store's identity away, and prints what it was.
pub(super) fn adopt(url: &str) -> Exit {
    let adopted = config::parse_flag(url)
        .map_err(|error| error.to_string())
        .and_then(|location| take(&location));
    match adopted {
        Ok(said) => {
            print(&said);
            Exit::Success
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn take(location: &Location) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot begin: {error}"))?;
    let id = StoreId::random().map_err(|error| format!("cannot make an id: {error}"))?;
    let env = |name: &str| std::env::var(name).ok();
    let was = Target::open(Role::Registry, location, &env)
        .and_then(|target| runtime.block_on(rewrite(&target, id)));
    // Don't wait for a hung store.
    runtime.shutdown_background();
    let was = was.map_err(|failure| failure.reason)?;
    Ok(format!(
        "{location} {was}; the next mount that names it makes it its own"
    ))
}

/// Replaces the identity; returns a description of the old one.
async fn rewrite(target: &Target, id: StoreId) -> Result<String, Failure> {
    let end = Instant::now() + ADOPT_TIMEOUT;
    let (was, condition) = match target.read_identity(end).await {
        Ok(Some((identity, token))) => (
            format!("was {}", identity.describe()),
            token.map_or(Condition::None, Condition::Unchanged),
        ),
        Ok(None) => ("had no identity".to_owned(), Condition::Absent),
        Err(failure) if failure.kind == Kind::WrongStore => {
            ("had an unreadable identity".to_owned(), Condition::None)
        }
        Err(failure) => return Err(failure),
    };
    let free = Identity::new(id, StoreRole::Unassigned, Vec::new());
    target.write_identity(&free, &condition, end).await?;
    Ok(was)
}
