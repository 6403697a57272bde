//! The author of each push: the user whose process writes, and this host.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use nix::unistd::{Uid, User, geteuid, gethostname};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::types::lock;
use crate::model::Author;

/// The author that a mount's pushes name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthorSetting {
    /// None.
    #[default]
    None,
    /// The same for each push.
    Fixed(Author),
    /// The user of the writing process, and this host.
    User,
}

/// How long a push waits for the name of its user, which may come from a directory service that is
/// down. One second: as long as for /proc. The name then is the user's number.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a name counts. Ten minutes: users seldom change their names, and a directory service that
/// was down is asked again.
const LIFETIME: Duration = Duration::from_secs(600);

/// The most users to remember.
const MAX_USERS: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(many) => many,
    None => NonZeroUsize::MIN,
};

/// The most names that are looked up at once. Hung look-ups hold threads that the journal needs, too.
const MAX_LOOKUPS: usize = 4;

/// The authors that are known, by their users, and since when.
type Names = LruCache<u32, (Option<Author>, Instant)>;

/// Finds the name of a user.
type FindUser = fn(u32) -> Option<String>;

/// The authors of a mount's pushes.
#[derive(Debug)]
pub(super) struct Authors {
    setting: AuthorSetting,
    host: Arc<str>,
    names: Arc<Mutex<Names>>,
    lookups: Arc<Semaphore>,
    find: FindUser,
}

impl Authors {
    pub(super) fn new(setting: AuthorSetting) -> Self {
        let host = gethostname().ok().and_then(|host| host.into_string().ok());
        Self::with(setting, &host.unwrap_or_default(), find_user)
    }

    fn with(setting: AuthorSetting, host: &str, find: FindUser) -> Self {
        Self {
            setting,
            host: host.into(),
            names: Arc::new(Mutex::new(LruCache::new(MAX_USERS))),
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            find,
        }
    }

    /// Returns the author of a push by a user, `None` for the user of the mount. `end` is the push's
    /// deadline: the name takes at most a fourth of the time until then.
    pub(super) async fn of(&self, uid: Option<u32>, end: Instant) -> Option<Author> {
        let uid = match self.setting {
            AuthorSetting::None => return None,
            AuthorSetting::Fixed(author) => return Some(author),
            AuthorSetting::User => uid.unwrap_or_else(|| geteuid().as_raw()),
        };
        let now = Instant::now();
        if let Some((known, since)) = lock(&self.names).get(&uid)
            && now.duration_since(*since) < LIFETIME
        {
            return *known;
        }
        let numbered = Author::of(&format!("uid {uid}"), &self.host);
        let Ok(permit) = Arc::clone(&self.lookups).try_acquire_owned() else {
            return numbered;
        };
        let (find, host, names) = (self.find, Arc::clone(&self.host), Arc::clone(&self.names));
        let looked_up = tokio::task::spawn_blocking(move || {
            let named = find(uid).and_then(|name| Author::of(&name, &host));
            let author = named.or(numbered);
            lock(&names).put(uid, (author, Instant::now()));
            drop(permit);
            author
        });
        let patience = LOOKUP_TIMEOUT.min(end.saturating_duration_since(now) / 4);
        match timeout_at(now + patience, looked_up).await {
            Ok(Ok(author)) => author,
            _ => {
                // The next pushes don't wait again; the name replaces the number if it comes later.
                lock(&self.names).put(uid, (numbered, Instant::now()));
                numbered
            }
        }
    }
}

/// Finds the name of a user in the system's databases, of which some are across the network.
fn find_user(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()??;
    Some(user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn text(author: Option<Author>) -> String {
        author.unwrap().to_string()
    }

    #[tokio::test]
    async fn a_push_names_its_user_and_the_host() {
        let authors = Authors::with(AuthorSetting::User, "build-7", find_user);
        assert_eq!(text(authors.of(Some(0), soon()).await), "root@build-7");
        let own = authors.of(None, soon()).await;
        let uid = geteuid().as_raw();
        assert_eq!(own, authors.of(Some(uid), soon()).await);
    }

    #[tokio::test]
    async fn an_unknown_user_is_named_by_number() {
        let find: [FindUser; 2] = [|_| None, |_| Some("a\x1b[2Jb".into())];
        for find in find {
            let authors = Authors::with(AuthorSetting::User, "build-7", find);
            let author = authors.of(Some(1234), soon()).await;
            assert_eq!(text(author), "uid 1234@build-7");
        }
    }

    #[tokio::test]
    async fn a_setting_comes_before_the_user() {
        let fixed: Author = "CI".parse().unwrap();
        for (setting, is) in [
            (AuthorSetting::None, None),
            (AuthorSetting::Fixed(fixed), Some(fixed)),
        ] {
            let authors = Authors::with(setting, "build-7", |_| panic!("not looked up"));
            assert_eq!(authors.of(Some(0), soon()).await, is);
        }
    }

    #[tokio::test]
    async fn each_user_is_looked_up_once() {
        static LOOKUPS: Semaphore = Semaphore::const_new(1);
        let find: FindUser = |_| {
            LOOKUPS.try_acquire().unwrap().forget();
            Some("alice".into())
        };
        let authors = Authors::with(AuthorSetting::User, "", find);
        for _ in 0..3 {
            assert_eq!(text(authors.of(Some(1), soon()).await), "alice");
        }
    }

    #[tokio::test]
    async fn a_hung_directory_service_delays_one_push_and_fails_none() {
        static ANSWERS: std::sync::OnceLock<()> = std::sync::OnceLock::new();
        let find: FindUser = |uid| {
            ANSWERS.wait();
            Some(format!("user{uid}"))
        };
        let authors = Authors::with(AuthorSetting::User, "", find);
        let nearly_over = Instant::now() + Duration::from_millis(40);
        for uid in 0..2 * MAX_LOOKUPS as u32 {
            for _ in 0..2 {
                let author = authors.of(Some(uid), nearly_over).await;
                assert_eq!(text(author), format!("uid {uid}"));
            }
        }
        assert_eq!(authors.lookups.available_permits(), 0);
        ANSWERS.set(()).unwrap();
        let all = MAX_LOOKUPS as u32;
        let _ended = authors.lookups.acquire_many(all).await.unwrap();
        assert_eq!(text(authors.of(Some(0), soon()).await), "user0");
    }
}
