//! Which stamps count: a stamp that is unreadable, or too far ahead of every clock that is known,
//! counts as none. With keys, so does a stamp that none of them has signed.
//!
//! Its content counts as put by hand: it can be read and replaced, and moves no clock. With keys,
//! only the registry may hold content that was put there by hand.

use std::time::SystemTime;

use bytes::Bytes;

use super::stamp_keys::SignedStamp;
use super::stamp_refusal::StampRefusal;
use super::target::{Meta, Target};
use super::{Listed, Stored};
use crate::model::{Format, Item, Stamp, WallClock, guess_format, is_ahead, nanos};

impl Target {
    /// Returns the stamp if it counts. The store's own clock speaks for a stamp, too: this
    /// machine's may be behind.
    pub(super) fn judge(
        &self,
        key: &str,
        signed: Option<SignedStamp>,
        unreadable: bool,
        modified: SystemTime,
    ) -> Result<Option<Stamp>, StampRefusal> {
        if signed.is_some_and(|signed| !self.is_authentic(key, &signed)) {
            return Err(StampRefusal::Unsigned);
        }
        match signed.map(|signed| signed.stamp) {
            _ if unreadable => Err(StampRefusal::Unreadable),
            Some(stamp)
                if is_ahead(stamp.when, self.now())
                    && (!self.driver.keeps_time() || is_ahead(stamp.when, modified)) =>
            {
                Err(StampRefusal::Ahead(stamp.when))
            }
            stamp => Ok(stamp),
        }
    }

    /// Makes a stamp for content that was put there by hand.
    pub(super) async fn stamp_by_hand(&self, item: &Item, stored: &Stored) -> Stamp {
        let format = guess(item, &stored.content).await;
        Stamp::new(self.when_by_hand(stored.modified), &stored.content, format)
    }

    /// Returns the time of a content that was put there by hand, in nanoseconds since the epoch.
    /// A file's time may be any: one that is too far ahead tells nothing.
    fn when_by_hand(&self, modified: SystemTime) -> u64 {
        let (when, now) = (nanos(modified), self.now());
        match is_ahead(when, now) {
            true => nanos(now),
            false => when,
        }
    }

    /// Describes a listed object, with its stamp if that counts.
    pub(super) fn meta(&self, listed: Listed) -> Meta {
        let judged = self.judge(
            &listed.key,
            listed.stamp,
            listed.unreadable,
            listed.modified,
        );
        Meta {
            size: listed.size,
            stamp: judged.unwrap_or_default(),
            refused: judged.err(),
            token: listed.token,
            modified: listed.modified,
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.wall.get_or_init(WallClock::default).now()
    }
}

/// Content of this size or more is parsed on its own thread; smaller content takes under 1 ms.
const MAX_INLINE_PARSE_BYTES: usize = 64 << 10;

/// Guesses the format of content without a stamp.
async fn guess(item: &Item, content: &Bytes) -> Format {
    match item {
        Item::Plan(_) => Format::Hcl,
        Item::Migration(_) | Item::Archive(_) | Item::Tag(_) => Format::Sql,
        Item::Schema | Item::Version(_) if content.len() < MAX_INLINE_PARSE_BYTES => {
            guess_format(content)
        }
        Item::Schema | Item::Version(_) => {
            let content = content.clone();
            let guessed = tokio::task::spawn_blocking(move || guess_format(&content)).await;
            guessed.unwrap_or(Format::Sql)
        }
    }
}
