//! The stamp, which is the metadata of one pushed content, and the clock that orders pushes.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Author, Base, Format, PlanStatus, Sha256, Version};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};

/// How far a stamp may be ahead of this machine's clock, in nanoseconds: five minutes. Machines
/// that keep their time differ by less. A stamp that is further ahead counts as none.
pub const MAX_AHEAD: u64 = 5 * 60 * 1_000_000_000;

/// The metadata of one pushed content.
///
/// Stamps are ordered by `when`. If two machines push in the same nanosecond, the hash decides, so
/// every mount agrees on the newer content. The author makes no difference: stamps that differ in
/// nothing else are equal.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The time of the push, in nanoseconds since the Unix epoch. It comes from a [`StampClock`],
    /// so no two pushes of one mount share it.
    pub when: u64,
    /// The hash of the content.
    pub sha256: Sha256,
    /// The length of the content in bytes.
    pub size: u64,
    /// The language of the content.
    pub format: Format,
    /// The content that it replaces.
    pub base: Base,
    /// The author of the push; `None` in stamps of earlier versions, or if the mount names none.
    pub author: Option<Author>,
    /// The status, if it is a plan's.
    pub status: PlanStatus,
}

impl Stamp {
    /// Describes `content` as pushed at `when`, over an unknown base.
    pub fn new(when: u64, content: &[u8], format: Format) -> Self {
        Self {
            when,
            sha256: Sha256::of(content),
            size: content.len() as u64,
            format,
            base: Base::Unknown,
            author: None,
            status: PlanStatus::default(),
        }
    }

    /// Returns whether the stamp describes `content`.
    pub fn matches(&self, content: &[u8]) -> bool {
        self.size == content.len() as u64 && self.sha256 == Sha256::of(content)
    }

    /// Returns the version that the push makes.
    pub fn version(&self) -> Version {
        Version::new(&when_to_text(self.when), self.sha256)
    }

    /// Returns the stamp of a version's content. If that was copied there by hand, only the version
    /// tells the time of the push.
    pub fn of_version(self, version: &Version) -> Self {
        match self.version() == *version {
            true => self,
            false => Self {
                when: version.when(),
                base: Base::Unknown,
                ..self
            },
        }
    }

    /// Tells whether another push is of the same content, format and status.
    pub fn is_alike(&self, other: &Self) -> bool {
        let parts = |stamp: &Self| (stamp.sha256, stamp.format, stamp.status);
        parts(self) == parts(other)
    }

    /// Returns `when` as a time for the file system.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.when)
    }

    /// Returns the parts that stamps are compared by.
    fn compared(&self) -> impl Ord + Hash + use<> {
        let content = (self.sha256, self.size, self.format);
        (self.when, content, self.base, self.status)
    }
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Stamp {}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compared().cmp(&other.compared())
    }
}

impl Hash for Stamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}

/// Formats a `when` as RFC 3339 in UTC with nanoseconds: `2024-09-10T17:37:44.000000001Z`. A
/// store's metadata and messages use this form.
pub fn when_to_text(when: u64) -> String {
    let seconds = i64::try_from(when / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(when % 1_000_000_000).unwrap_or(0);
    chrono::DateTime::from_timestamp(seconds, nanos)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

/// Parses a `when` in the form of [`when_to_text`].
pub fn when_from_text(text: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    let seconds = u64::try_from(time.timestamp()).ok()?;
    // A leap second has more than a second's nanoseconds, and no stamp is made in one.
    let nanos = Some(time.timestamp_subsec_nanos()).filter(|nanos| *nanos < 1_000_000_000)?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(nanos.into())
}

/// Converts a time to a stamp's `when`; clamps times outside 1970 to 2554.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Tells whether a `when` is further ahead of a clock than [`MAX_AHEAD`].
pub(crate) fn is_ahead(when: u64, now: SystemTime) -> bool {
    #[cfg(test)]
    if injected(Bug::FutureBelieved) {
        return false;
    }
    when > nanos(now).saturating_add(MAX_AHEAD)
}

/// The source of `when`. It increases strictly, even if the machine's clock goes back a little.
///
/// This is a hybrid logical clock. It returns the later one of two times: the wall clock, and one
/// nanosecond after the newest stamp that it has issued or [observed](StampClock::observe). So a
/// push is newer than every stamped content that the mount has seen from any machine. No stamp, its
/// own included, takes it further ahead of the wall clock than [`MAX_AHEAD`].
#[derive(Debug, Default)]
pub struct StampClock {
    newest: Mutex<u64>,
}

impl StampClock {
    /// Issues the next `when`; `now` is the wall clock's time.
    pub fn next(&self, now: SystemTime) -> u64 {
        let mut newest = self.lock();
        *newest = match is_ahead(*newest, now) {
            // The clock was wrong, and was set back: other machines would reject later stamps.
            true => nanos(now),
            false => nanos(now).max(newest.saturating_add(1)),
        };
        *newest
    }

    /// Records a stamp from a target, unless it is too far ahead.
    pub fn observe(&self, when: u64, now: SystemTime) {
        if !is_ahead(when, now) {
            let mut newest = self.lock();
            *newest = when.max(*newest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        self.newest
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_increase_strictly_also_when_the_clock_goes_back() {
        let clock = StampClock::default();
        let noon = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let times = [noon, noon, noon - Duration::from_secs(240), noon];
        let issued: Vec<u64> = times.iter().map(|&now| clock.next(now)).collect();
        assert!(issued.is_sorted_by(|a, b| a < b), "{issued:?}");
        assert_eq!(issued[0], nanos(noon));
    }

    #[test]
    fn a_push_is_newer_than_every_stamp_seen() {
        let clock = StampClock::default();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let ahead = nanos(now) + MAX_AHEAD;
        clock.observe(ahead, now);
        assert!(clock.next(now) > ahead);
    }

    #[test]
    fn a_stamp_too_far_ahead_moves_no_clock() {
        let clock = StampClock::default();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for ahead in [nanos(now) + MAX_AHEAD + 1, u64::MAX] {
            clock.observe(ahead, now);
        }
        assert_eq!(clock.next(now), nanos(now));
    }

    #[test]
    fn a_clock_that_is_corrected_issues_correct_stamps() {
        let clock = StampClock::default();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        clock.next(now + Duration::from_secs(3600 * 24 * 365));
        assert_eq!(clock.next(now), nanos(now));
        assert_eq!(clock.next(now), nanos(now) + 1);
    }

    #[test]
    fn a_when_survives_its_text_form() {
        for when in [
            0,
            1,
            1_726_000_000_123_456_789,
            1_726_000_000_000_000_000,
            u64::MAX,
        ] {
            assert_eq!(when_from_text(&when_to_text(when)), Some(when));
        }
        assert_eq!(
            when_to_text(1_725_989_864_000_000_001),
            "2024-09-10T17:37:44.000000001Z"
        );
        assert_eq!(when_from_text("yesterday"), None);
        for unreadable in [
            "1960-01-01T00:00:00Z",
            "2199-12-31T23:59:60.5Z",
            "9999-12-31T00:00:00Z",
        ] {
            assert_eq!(when_from_text(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn the_author_makes_no_stamp_another() {
        let stamp = Stamp::new(1, b"abc", Format::Sql);
        let signed_by = |author: &str| Stamp {
            author: author.parse().ok(),
            ..stamp
        };
        assert_eq!(stamp, signed_by("alice"));
        assert_eq!(signed_by("bob").cmp(&signed_by("alice")), Ordering::Equal);
        assert!(Stamp { when: 2, ..stamp } > signed_by("zoe"));
    }

    #[test]
    fn a_stamp_matches_its_own_bytes_only() {
        let stamp = Stamp::new(1, b"abc", Format::Sql);
        assert!(stamp.matches(b"abc"));
        assert!(!stamp.matches(b"abd"));
        assert!(!stamp.matches(b"abcd"));
    }
}
