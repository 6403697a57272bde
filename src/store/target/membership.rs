//! Membership: before anything else is asked of a target, its store must say that it is the one that
//! the mount means. So a wrong URL, another disk in the place of the right one, and a wiped bucket
//! are outages, and never a registry whose schemas are all deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::admission::{Admission, ExpectedStore};
use super::{BOOKKEEPING, Role, Target};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{Format, Stamp};
use crate::store::identity::{Identity, KEY, MAX_IDENTITY_BYTES, StoreId};
use crate::store::known_id::{Basis, KnownId};
use crate::store::{Condition, Failure, Kind, SignedStamp, StampKeys, Token};

/// How often an identity that another mount is just writing is read again.
const RACES: usize = 3;

/// The stores of one mount, by their ids: two URLs with one id are one store.
#[derive(Debug, Default)]
pub struct Members(Mutex<BTreeMap<StoreId, Arc<str>>>);

impl Members {
    /// Enters a target; returns the URL of another target that is the same store.
    fn enter(&self, id: &StoreId, url: &Arc<str>) -> Option<Arc<str>> {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = members.entry(id.clone()).or_insert_with(|| Arc::clone(url));
        (known != url).then(|| Arc::clone(known))
    }
}

/// The check of one target against the store that the mount expects.
#[derive(Debug)]
pub struct Membership {
    expected: ExpectedStore,
    members: Arc<Members>,
    /// Held while the store is asked.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The identity that the store had at the start, until the first check uses it.
    heard: Option<Option<(Identity, Option<Token>)>>,
    /// The editions of the ids that the store fitted when it was asked.
    fits: Option<u64>,
    /// The identity of a store that fits, if it has one.
    identity: Option<Identity>,
}

impl Membership {
    /// Makes the expectation for a target. `registries` are those that it belongs to.
    pub fn new(
        role: Role,
        read_only: bool,
        own: Arc<KnownId>,
        registries: Vec<Arc<KnownId>>,
        members: Arc<Members>,
    ) -> Self {
        let expected = ExpectedStore {
            role,
            read_only,
            own,
            registries,
            keys: None,
        };
        Self {
            expected,
            members,
            asking: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Makes the store say that pushes are signed by these keys.
    pub(super) fn set_stamp_keys(&mut self, keys: Arc<StampKeys>) {
        self.expected.keys = Some(keys);
    }

    /// Returns why the store takes no write of this mount, if that is known: another key signs its
    /// pushes.
    pub(super) fn write_refusal(&self, url: &str) -> Option<Failure> {
        let state = self.lock();
        let key = state.identity.as_ref()?.stamp_key.as_ref()?;
        self.expected.refusal_of(url, key)
    }

    /// Returns the target's own id.
    pub fn own(&self) -> &Arc<KnownId> {
        &self.expected.own
    }

    /// Passes what the store has just said of itself to the first check.
    pub fn hear(&self, heard: Option<(Identity, Option<Token>)>) {
        self.lock().heard = Some(heard);
    }

    /// Makes the next request ask the store again.
    pub fn doubt(&self) {
        self.lock().fits = None;
    }

    /// Asks the store what it is, unless it is known.
    ///
    /// # Errors
    ///
    /// [`Kind::WrongStore`] for a wrong store; or the failing answer.
    pub(super) async fn check(&self, target: &Target, deadline: Instant) -> Result<(), Failure> {
        if self.fits() {
            return Ok(());
        }
        let asking = timeout_at(deadline, self.asking.lock()).await;
        let _asking = asking.map_err(|_| {
            let what = format!("no answer to the question which store {} is", target.url());
            Failure::no_answer(what)
        })?;
        for _ in 0..RACES {
            if self.fits() {
                return Ok(());
            }
            let heard = self.lock().heard.take();
            let heard = match heard {
                Some(heard) => heard,
                None => target.read_identity(deadline).await?,
            };
            let edition = self.edition();
            let admission = self.expected.compare(target.url(), heard.as_ref());
            let admission = self.expected.with_key(admission, heard.as_ref());
            #[cfg(test)]
            let admission = match admission {
                Admission::Refused(..) if injected(Bug::AnyStore) => Admission::Fits,
                admission => admission,
            };
            let unless_empty = admission == Admission::UnlessEmpty;
            #[cfg(test)]
            let unless_empty = unless_empty && !injected(Bug::WipedRenamed);
            if unless_empty && target.is_empty(deadline).await? {
                return Err(self.expected.wiped(target.url()));
            }
            let identity = heard.map(|(identity, _)| identity);
            let identity = match admission {
                Admission::Fits => identity,
                Admission::Unidentified => None,
                Admission::UnlessEmpty if self.expected.read_only => None,
                Admission::Refused(what, fix) => {
                    self.forget_wrong(identity.as_ref());
                    return Err(Failure::new(Kind::WrongStore, what).with_fix(Some(fix)));
                }
                Admission::UnlessEmpty | Admission::Write(..) => {
                    let (wanted, condition) = match admission {
                        Admission::Write(wanted, condition) => (wanted, condition),
                        _ => (self.expected.identity(), Condition::Absent),
                    };
                    match target.write_identity(&wanted, &condition, deadline).await {
                        // A store that ignores conditions has one winner too: its last writer.
                        Ok(()) => continue,
                        Err(failure) if failure.kind == Kind::Conflict => continue,
                        // A store that takes no identity takes no push either.
                        Err(failure) if !failure.is_outage() => identity
                            .filter(|said| (&said.id, said.role) == (&wanted.id, wanted.role)),
                        Err(failure) => return Err(failure),
                    }
                }
            };
            if let Some(identity) = &identity {
                self.enter(target, identity)?;
            }
            let mut state = self.lock();
            state.identity = identity;
            // An id that the mount has just learned from this store is no news about it.
            state.fits = Some(edition.max(self.edition()));
        }
        match self.fits() {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Busy,
                format!("other mounts keep changing which store {} is", target.url()),
            )),
        }
    }

    /// Asks the registry again what it is, before its answer that something is absent counts: a wiped
    /// store has no deletions.
    ///
    /// # Errors
    ///
    /// As for [`Self::check`].
    pub(super) async fn confirm(&self, target: &Target, deadline: Instant) -> Result<(), Failure> {
        #[cfg(test)]
        if injected(Bug::AbsenceBelieved) {
            return Ok(());
        }
        let identity = self.lock().identity.clone();
        let (Role::Registry, Some(identity)) = (self.expected.role, identity) else {
            return Ok(());
        };
        // A stamp is enough, and it passes where a proxy garbles what objects hold.
        let (attempt, head) = (format!("reading {KEY}"), target.driver.head(KEY));
        if let Ok(listed) = target.by_anyone(deadline, &attempt, head).await
            && let Some(stamp) = listed.stamp
            && stamp.stamp.matches(&identity.to_bytes())
        {
            return Ok(());
        }
        self.doubt();
        self.check(target, deadline).await
    }

    /// Gives the store the identity that the mount expects, on a person's word.
    ///
    /// # Errors
    ///
    /// The failing answer; [`Kind::WrongStore`] if the store says that it is another one.
    pub(super) async fn restore(&self, target: &Target, deadline: Instant) -> Result<(), Failure> {
        if target.read_identity(deadline).await?.is_none() {
            let identity = self.expected.identity();
            let written = target.write_identity(&identity, &Condition::Absent, deadline);
            match written.await {
                Err(failure) if failure.kind != Kind::Conflict => return Err(failure),
                _ => {}
            }
        }
        self.doubt();
        self.check(target, deadline).await
    }

    /// Forgets the id of a backup that is another registry's: what it misses waits for the store that
    /// takes its place.
    fn forget_wrong(&self, identity: Option<&Identity>) {
        let own = &self.expected.own;
        let is_own = identity.is_some_and(|identity| identity.id == own.id());
        if is_own
            && self.expected.role != Role::Registry
            && let Ok(made_up) = StoreId::random()
        {
            own.set(made_up, Basis::Provisional);
        }
    }

    /// Learns the ids of a store that fits.
    fn enter(&self, target: &Target, identity: &Identity) -> Result<(), Failure> {
        if let Some(other) = self.members.enter(&identity.id, &target.url) {
            let what = format!(
                "{} is the same store as {other}, or a copy of it",
                target.url()
            );
            let fix = format!(
                "name another store, or make it one: atlasfs adopt {}",
                target.url()
            );
            return Err(Failure::new(Kind::WrongStore, what).with_fix(Some(fix)));
        }
        self.expected.own.set(identity.id.clone(), Basis::Confirmed);
        if let (Role::Backup(_), [registry], [known]) = (
            self.expected.role,
            &*self.expected.registries,
            &*identity.registries,
        ) && registry.basis() == Basis::Provisional
        {
            registry.set(known.clone(), Basis::Told);
        }
        Ok(())
    }

    fn edition(&self) -> u64 {
        let registries = self.expected.registries.iter();
        registries.map(|registry| registry.edition()).sum()
    }

    fn fits(&self) -> bool {
        let edition = self.edition();
        self.lock().fits == Some(edition)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    /// Reads what the store says of itself, with the token of that; `None` if it says nothing.
    ///
    /// # Errors
    ///
    /// The target's failing answer; [`Kind::WrongStore`] if the identity can't be understood: it
    /// may be another registry's.
    pub async fn read_identity(
        &self,
        deadline: Instant,
    ) -> Result<Option<(Identity, Option<Token>)>, Failure> {
        let get = self.driver.get(KEY, MAX_IDENTITY_BYTES);
        let stored = match self
            .by_anyone(deadline, &format!("reading {KEY}"), get)
            .await
        {
            Ok(stored) => stored,
            Err(failure) if failure.kind == Kind::NotFound => return Ok(None),
            Err(failure) => {
                if failure.is_outage() && !failure.timed_out {
                    self.is_a_store(deadline).await?;
                }
                return Err(failure);
            }
        };
        let is_whole = |signed: &SignedStamp| signed.stamp.matches(&stored.content);
        let is_whole = stored.stamp.as_ref().map(is_whole);
        let said = match is_whole {
            Some(false) => Err("it is not what its stamp says".into()),
            _ => Identity::parse(&stored.content),
        };
        if said.is_err() && is_whole != Some(true) {
            self.is_a_store(deadline).await?;
        }
        match said {
            Ok(identity) => Ok(Some((identity, stored.token))),
            Err(why) => Err(Failure::new(
                Kind::WrongStore,
                format!(
                    "can't tell which registry {} belongs to: {KEY}: {why}",
                    self.url()
                ),
            )
            .with_fix(Some(format!(
                "correct the url, or give it a new identity: atlasfs adopt {}",
                self.url()
            )))),
        }
    }

    /// Checks that a store answers at all: its listing tells best what is wrong with a URL.
    async fn is_a_store(&self, deadline: Instant) -> Result<(), Failure> {
        let probe = self.driver.probe();
        self.by_anyone(deadline, "probing", probe).await
    }

    /// Writes what the store is. A race of two writers has one winner, if the store honours
    /// conditions.
    ///
    /// # Errors
    ///
    /// The target's failing answer; [`Kind::Conflict`] if another writer was faster.
    pub async fn write_identity(
        &self,
        identity: &Identity,
        condition: &Condition,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let content = identity.to_bytes();
        let stamp = Stamp::new(identity.when, &content, Format::Sql).into();
        let put = self.driver.put(KEY, content, &stamp, condition);
        let attempt = format!("writing {KEY}");
        self.by_anyone(deadline, &attempt, put).await.map(drop)
    }

    /// Checks that the store is the one that the mount means.
    ///
    /// # Errors
    ///
    /// [`Kind::WrongStore`], or the target's failing answer.
    pub async fn check_identity(&self, deadline: Instant) -> Result<(), Failure> {
        match &self.membership {
            Some(membership) => membership.check(self, deadline).await,
            None => Ok(()),
        }
    }

    /// Returns why the store takes no write of this mount, if that is known: another key signs its
    /// pushes.
    pub fn write_refusal(&self) -> Option<Failure> {
        self.membership.as_ref()?.write_refusal(&self.url)
    }

    /// Gives a store that has lost its identity the one that the mount expects, on a person's word.
    ///
    /// # Errors
    ///
    /// The target's failing answer; [`Kind::WrongStore`] if the store says that it is another one.
    pub async fn restore_identity(&self, deadline: Instant) -> Result<(), Failure> {
        match &self.membership {
            Some(membership) => {
                self.by_anyone(deadline, "restoring", self.driver.restore())
                    .await?;
                membership.restore(self, deadline).await
            }
            None => Ok(()),
        }
    }

    /// Tells whether the store holds nothing but bookkeeping.
    async fn is_empty(&self, deadline: Instant) -> Result<bool, Failure> {
        let listed = self.driver.list_prefixes();
        let listed = self.by_anyone(deadline, "listing the repositories", listed);
        let listed = listed.await?;
        Ok(listed.iter().all(|prefix| prefix == BOOKKEEPING))
    }

    /// Checks that a store that lacks something has not been wiped.
    pub(super) async fn confirm(&self, deadline: Instant) -> Result<(), Failure> {
        match &self.membership {
            Some(membership) => membership.confirm(self, deadline).await,
            None => Ok(()),
        }
    }

    pub(super) async fn unless_wiped<T>(
        &self,
        reply: Result<T, Failure>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        if reply
            .as_ref()
            .is_err_and(|failure| failure.kind == Kind::NotFound)
        {
            self.confirm(deadline).await?;
        }
        reply
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
