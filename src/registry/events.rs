//! Events: what happened, one line each, in the log and in `.atlasfs/events`.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::clock::Clock;
use super::lock;
use crate::model::{ArtifactId, when_to_text};
use crate::store::StampRefusal;

/// How many events `.atlasfs/events` keeps: some hours of a busy site, in well under a megabyte.
const KEPT_EVENTS: usize = 1_000;

/// How many stamps that count as none are remembered, so that each is reported once. A site with more
/// has heard of the problem.
const REFUSED_REMEMBERED: usize = 1_000;

/// How much attention an event needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The operation went as it should.
    Info,
    /// The operation succeeded, with something missing.
    Warn,
    /// The operation failed.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One event, before it is reported.
#[derive(Debug)]
pub struct Event {
    level: Level,
    kind: &'static str,
    message: String,
    fields: Map<String, Value>,
}

impl Event {
    /// Creates an event of a kind (`push`, `fallback`, …) with a message for people.
    pub fn new(level: Level, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            level,
            kind,
            message: message.into(),
            fields: Map::new(),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.into(), value.into());
        self
    }
}

/// The newest events.
#[derive(Debug)]
pub struct Events {
    clock: Arc<Clock>,
    lines: Mutex<VecDeque<String>>,
    refused: Mutex<HashSet<(String, ArtifactId, StampRefusal)>>,
}

impl Events {
    /// Starts without an event.
    pub fn new(clock: Arc<Clock>) -> Self {
        let (lines, refused) = (Mutex::default(), Mutex::default());
        Self {
            clock,
            lines,
            refused,
        }
    }

    /// Reports an event: one line in the log, and one in `.atlasfs/events`.
    pub fn report(&self, event: Event) {
        let Event {
            level,
            kind,
            message,
            fields,
        } = event;
        let facts = fields
            .iter()
            .map(|(key, value)| format!(" {key}={value}"))
            .collect::<String>();
        match level {
            Level::Info => tracing::info!("{kind}: {message}{facts}"),
            Level::Warn => tracing::warn!("{kind}: {message}{facts}"),
            Level::Error => tracing::error!("{kind}: {message}{facts}"),
        }
        let mut object = json!({
            "time": when_to_text(self.clock.nanos()),
            "level": level.as_str(),
            "event": kind,
            "message": message,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(fields);
        }
        let mut lines = lock(&self.lines);
        if lines.len() == KEPT_EVENTS {
            lines.pop_front();
        }
        lines.push_back(object.to_string());
    }

    /// Reports, once, that a target's stamp of an artifact counts as none.
    pub fn report_refused(&self, id: &ArtifactId, url: &str, refused: StampRefusal) {
        let mut told = lock(&self.refused);
        if told.len() < REFUSED_REMEMBERED && told.insert((url.to_owned(), id.clone(), refused)) {
            drop(told);
            let message = format!("{refused}: the content counts as put there by hand");
            let event = Event::new(Level::Warn, "stamp-refused", message);
            self.report(event.with("artifact", id.to_string()).with("target", url));
        }
    }

    /// Reports that a target's tombstone counts for nothing.
    pub fn report_refused_tombstone(&self, key: &str, url: &str) {
        let refused = StampRefusal::Unsigned;
        let message = format!("{refused}: the deletion counts for nothing");
        let event = Event::new(Level::Warn, "stamp-refused", message);
        self.report(event.with("tombstone", key).with("target", url));
    }

    /// Reports a bug in a background task. The task goes on: pending pushes stay pending.
    pub fn report_bug(&self, what: &str) {
        let message = "a background task hit a bug and will try again; please report it";
        self.report(Event::new(Level::Error, "bug", message).with("in", what));
    }

    /// Returns the kept events, oldest first, one JSON object a line.
    pub fn text(&self) -> String {
        lock(&self.lines)
            .iter()
            .fold(String::new(), |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::WallClock;

    #[test]
    fn an_event_is_one_json_object_a_line_with_all_its_facts() {
        let time = Duration::from_secs(1_725_989_864);
        let wall = WallClock::new(move || UNIX_EPOCH + time);
        let events = Events::new(Arc::new(Clock::new(wall)));
        let event = Event::new(Level::Warn, "push", "a\nb").with("artifact", "app/schema");
        events.report(event);
        let text = events.text();
        assert_eq!(text.lines().count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["time"], "2024-09-10T17:37:44.000000000Z");
        assert_eq!(object["level"], "warn");
        assert_eq!(object["event"], "push");
        assert_eq!(object["message"], "a\nb");
        assert_eq!(object["artifact"], "app/schema");
    }

    #[test]
    fn the_newest_events_are_kept() {
        let events = Events::new(Arc::default());
        for n in 0..KEPT_EVENTS + 5 {
            events.report(Event::new(Level::Info, "n", n.to_string()));
        }
        let text = events.text();
        assert_eq!(text.lines().count(), KEPT_EVENTS);
        assert!(text.lines().next().unwrap().contains("\"message\":\"5\""));
    }
}
