//! The contents that were written under each name, and the acknowledged ones.

use std::collections::BTreeMap;

/// A content, or `None` for a missing artifact.
pub type Content = Option<Vec<u8>>;

/// Every content of a name, in order. The first one is `None`.
#[derive(Debug, Clone)]
pub struct Line {
    contents: Vec<Content>,
    acknowledged: usize,
}

/// The lines of all names.
#[derive(Debug, Clone, Default)]
pub struct History(BTreeMap<String, Line>);

impl History {
    /// Records that a program is about to write a content, or to delete.
    pub fn attempt(&mut self, name: &str, content: Content) {
        let line = self.0.entry(name.to_owned()).or_insert_with(|| Line {
            contents: vec![None],
            acknowledged: 0,
        });
        line.contents.push(content);
    }

    /// Records that the program got a success.
    pub fn acknowledge(&mut self, name: &str) {
        let line = self.0.get_mut(name).expect("a name");
        line.acknowledged = line.contents.len() - 1;
    }

    /// Returns the line of a name that was written.
    #[track_caller]
    pub fn line(&self, name: &str) -> &Line {
        self.0.get(name).expect("a name")
    }

    pub fn lines(&self) -> impl Iterator<Item = (&String, &Line)> {
        self.0.iter()
    }
}

impl Line {
    /// Asserts that a content is one of those ever written, whole; returns its position.
    #[track_caller]
    pub fn place_of(&self, content: &Content, where_: &str) -> usize {
        // Search from the end: after a write, `None` is a deletion.
        let found = self.contents.iter().rposition(|known| known == content);
        found.unwrap_or_else(|| {
            let content = content.as_deref().map(String::from_utf8_lossy);
            panic!("{where_}: {content:?} was never written")
        })
    }

    /// Returns whether a content is that of the last write, which was not acknowledged.
    pub fn is_unanswered(&self, content: &Content) -> bool {
        self.contents.last() == Some(content) && self.acknowledged + 1 < self.contents.len()
    }

    /// Asserts that a content is the last acknowledged one or newer; returns its position.
    #[track_caller]
    pub fn expect(&self, content: &Content, where_: &str) -> usize {
        let place = self.place_of(content, where_);
        let acknowledged = self.acknowledged;
        assert!(
            place >= acknowledged,
            "{where_}: content {place} although content {acknowledged} was acknowledged"
        );
        place
    }
}
