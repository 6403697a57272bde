//! The query parameters of a target's URL.

use super::parts::{Parts, decode, parameter_shown};

/// The parameters of one URL, each of them known to its scheme and there once.
pub(super) struct Query {
    pairs: Vec<(&'static str, String)>,
}

impl Query {
    /// Parses the query of a URL whose scheme knows the given parameters.
    pub(super) fn parse(parts: &Parts<'_>, known: &[&'static str]) -> Result<Self, String> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for pair in parts.query.unwrap_or_default().split('&') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return Err(unknown(name, &parts.scheme, known));
            };
            if pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(format!("parameter {name} is there twice: keep one"));
            }
            let value = decode(value, true).ok_or_else(|| {
                format!(
                    "parameter {name} is not percent-encoded UTF-8: write a percent sign as %25"
                )
            })?;
            if value.chars().any(char::is_control) {
                return Err(format!(
                    "parameter {name} has a control character: remove it"
                ));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(known, _)| *known == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// Takes a parameter's text; an empty one is an error, for it is mostly a variable unset.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            Some(value) if value.is_empty() => Err(format!(
                "parameter {name} is empty: give it a value or remove it"
            )),
            other => Ok(other),
        }
    }

    /// Takes a boolean parameter, if it is there. The spellings are those of Go's
    /// `strconv.ParseBool`, which Atlas reads them with.
    pub(super) fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(format!(
                "parameter {name} is {:?}: write true or false",
                other.chars().take(16).collect::<String>()
            )),
        }
    }

    /// Takes a boolean parameter; one that isn't there is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }
}

fn unknown(name: &str, scheme: &str, known: &[&str]) -> String {
    let known_ones = match known {
        [] => format!("{scheme} URLs have no parameters"),
        known => format!("known for {scheme} are {}", known.join(", ")),
    };
    format!(
        "unknown parameter {:?}{}: {known_ones}{}",
        parameter_shown(name),
        did_you_mean(name, known),
        if looks_like_credential(name) {
            "; credentials come from the provider's own chain, never from the URL"
        } else {
            ""
        }
    )
}

/// Tells whether a parameter is one that people try to pass credentials with.
fn looks_like_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "key",
        "secret",
        "token",
        "sig",
        "sas",
        "password",
        "credential",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// Returns ` (did you mean "…"?)` if a known word is at most two edits away.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    // Longer than any known word and its two edits: not worth comparing.
    if word.len() > 32 {
        return String::new();
    }
    known
        .iter()
        .map(|known| (edits(word, known), known))
        .filter(|(edits, known)| *edits <= 2 && *edits < known.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| format!(" (did you mean {known:?}?)"))
        .unwrap_or_default()
}

/// Counts the insertions, deletions and substitutions between two words, letter case aside.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = vec![before];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            before = (diagonal + usize::from(a != *b))
                .min(before + 1)
                .min(above + 1);
            next.push(before);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
