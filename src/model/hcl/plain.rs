//! HCL rewritten for hcl-rs. Only atlas.hcl needs this: the mount reads the values of no other
//! document.

use std::collections::HashMap;
use std::ops::Range;

use super::recogniser::{Listener, Recogniser};
use super::scanner::{Syntax, name_len};

/// The byte ranges of a heredoc: its marker, its text, its closing line.
type Heredoc = (Range<usize>, Range<usize>, Range<usize>);

/// An item of an object: the object's start, and the byte ranges of the key and of the whole item.
type RawItem = (usize, Range<usize>, Range<usize>);

/// The parts that hcl-rs may read differently.
#[derive(Default)]
struct Suspects {
    heredocs: Vec<Heredoc>,
    items: Vec<RawItem>,
    /// The keys of the open items.
    keys: Vec<Range<usize>>,
}

impl Listener for Suspects {
    fn heredoc(&mut self, marker: Range<usize>, text: Range<usize>, closing: Range<usize>) {
        self.heredocs.push((marker, text, closing));
    }

    fn key(&mut self, start: usize) {
        self.keys.push(start..start);
    }

    fn key_end(&mut self, end: usize) {
        if let Some(key) = self.keys.last_mut() {
            key.end = end;
        }
    }

    fn item_end(&mut self, object: usize, end: usize) {
        if let Some(key) = self.keys.pop() {
            let item = key.start..end;
            self.items.push((object, key, item));
        }
    }
}

/// Checks a text without its byte-order mark by HashiCorp's rules, and rewrites the parts that
/// hcl-rs reads differently. All byte offsets stay the same. Blanks replace comments, line ends
/// within brackets, and each item of an object whose key appears again. A heredoc with a line that
/// begins with its marker gets another marker.
///
/// # Errors
///
/// The first [`Syntax`] error.
pub(crate) fn plain(text: &[u8]) -> Result<String, Syntax> {
    let mut suspects = Suspects::default();
    let mut recogniser = Recogniser::new(text, &mut suspects);
    recogniser.scanner.ignored = Some(Vec::new());
    let ignored = recogniser.run()?;
    let mut plain = text.to_vec();
    for range in ignored {
        plain.get_mut(range).unwrap_or_default().fill(b' ');
    }
    for heredoc in suspects.heredocs {
        rename(&mut plain, heredoc);
    }
    for item in repeated(&plain, suspects.items) {
        plain.get_mut(item).unwrap_or_default().fill(b' ');
    }
    String::from_utf8(plain).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Syntax::at(text, at, "invalid UTF-8: save the file as UTF-8")
    })
}

/// Returns the items whose key appears again in their object. Atlas uses the last one, and hcl-rs
/// refuses them all. The comparison uses the spelling of the keys: the same spelling has the same
/// value.
fn repeated(plain: &[u8], items: Vec<RawItem>) -> Vec<Range<usize>> {
    let mut last = HashMap::new();
    let earlier = items.into_iter().filter_map(|(object, key, item)| {
        let key = plain.get(key).unwrap_or_default().trim_ascii();
        last.insert((object, key), item)
    });
    earlier.collect()
}

/// Gives a heredoc another marker if a line begins with its marker: hcl-rs would end it there,
/// which is too early.
fn rename(plain: &mut [u8], (marker, text, closing): Heredoc) {
    let slice = |range: &Range<usize>| plain.get(range.clone()).unwrap_or_default();
    let old = slice(&marker).to_vec();
    let is_free = |name: &[u8]| {
        let mut lines = slice(&text).split(|&byte| byte == b'\n');
        !lines.any(|line| line.trim_ascii_start().starts_with(name))
    };
    if is_free(&old) {
        return;
    }
    let letters = || (b'A'..=b'Z').chain(b'a'..=b'z');
    let pairs = letters().flat_map(|first| letters().map(move |last| (first, last)));
    let mut names = pairs.map(|(first, last)| {
        let mut name = vec![first; old.len()];
        name.pop();
        name.push(last);
        name
    });
    let start = slice(&closing)
        .iter()
        .position(|&byte| name_len(&[byte]) > 0 || byte >= 0x80);
    if let (Some(name), Some(start)) = (names.find(|name| is_free(name)), start) {
        for at in [marker.start, closing.start + start] {
            if let Some(place) = plain.get_mut(at..at + name.len()) {
                place.copy_from_slice(&name);
            }
        }
    }
}
