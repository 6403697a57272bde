//! The formats of schema states and plans, and the checks that run before any target gets a byte.

use std::fmt;
use std::str::FromStr;

use super::hcl::{Listener, Syntax, ValueKind, recognise, sequence_sign};
use super::text::{Declares, declares, decode, looks_like_hcl};
use super::{InvalidSum, PlanName};

/// The language of a document. Atlas tells the languages apart by the file's suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Atlas's HCL.
    Hcl,
    /// SQL.
    Sql,
}

impl Format {
    /// Returns the format's name, which is also its file suffix: `hcl`, `sql`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Hcl => "hcl",
            Format::Sql => "sql",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The text names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a format is \"hcl\" or \"sql\"")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "hcl" => Ok(Format::Hcl),
            "sql" => Ok(Format::Sql),
            _ => Err(UnknownFormat),
        }
    }
}

/// The reason for refusing a document. The message gives line and column, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The document declares nothing. As a desired state that would mean "drop everything".
    #[error(
        "the document is empty: as a desired state that would drop everything; \
         nothing was pushed (to delete an artifact, mount with --allow-delete and use rm)"
    )]
    Empty,
    /// The document only names other files, which the registry doesn't have.
    #[error(
        "the document has only atlas:import lines, and the files that they name are not in the \
         registry: as a desired state it would drop everything; push the whole schema in one file"
    )]
    OnlyImports,
    /// The document is UTF-16.
    #[error("the document is UTF-16; save it as UTF-8")]
    Utf16,
    /// The document must be HCL, and doesn't parse as HCL.
    #[error("not valid HCL: {0} (a SQL schema is written as schema.sql)")]
    NotHcl(Syntax),
    /// The push would turn an HCL state into SQL by accident.
    #[error(
        "the schema state is HCL and the new document doesn't parse as HCL: {0} \
         (to change the state to SQL on purpose, write schema.sql)"
    )]
    HclToSql(Syntax),
    /// The plan doesn't parse.
    #[error("not a valid plan: {0}")]
    PlanSyntax(Syntax),
    /// The plan parses, and breaks a rule for plans.
    #[error("not a valid plan: {0}")]
    Plan(String),
    /// The content is no `atlas.sum`.
    #[error("not a valid atlas.sum: {0} (`atlas migrate hash` writes one)")]
    Sum(#[from] InvalidSum),
}

/// Checks a schema state and decides its format.
///
/// `suffix` is the format of the file's name (`schema.hcl`, `schema.sql`). `current` is the format
/// of the state that the push replaces. Without a suffix, a document that parses as HCL is HCL, and
/// any other is SQL. Two cases never become SQL: a document that replaces an HCL state, and a
/// document that looks like HCL.
///
/// # Errors
///
/// A [`Rejection`] for an empty document, for one that must be HCL and doesn't parse, and for the
/// accidental change from HCL to SQL.
pub fn check_schema(
    content: &[u8],
    suffix: Option<Format>,
    current: Option<Format>,
) -> Result<Format, Rejection> {
    let text = readable(content)?;
    let hcl = match suffix {
        Some(Format::Sql) => None,
        _ => {
            let mut items = Items(0);
            Some(recognise(text, &mut items).map(|()| items.0))
        }
    };
    if !matches!(hcl, Some(Ok(1..))) {
        says_something(content)?;
    }
    match (hcl, suffix, current) {
        (None, ..) => Ok(Format::Sql),
        (Some(Ok(1..)), ..) => Ok(Format::Hcl),
        // `/*! … */` is a comment in HCL, and a statement in MySQL.
        (Some(Ok(0)), None, None | Some(Format::Sql)) => Ok(Format::Sql),
        (Some(Ok(0)), ..) => Err(Rejection::Empty),
        (Some(Err(syntax)), Some(_), _) => Err(Rejection::NotHcl(syntax)),
        (Some(Err(syntax)), None, Some(Format::Hcl)) => Err(Rejection::HclToSql(syntax)),
        (Some(Err(syntax)), None, _) if looks_like_hcl(text) => Err(Rejection::NotHcl(syntax)),
        (Some(Err(_)), None, _) => Ok(Format::Sql),
    }
}

/// Guesses the format of an unchecked schema state.
pub fn guess_format(content: &[u8]) -> Format {
    match check_schema(content, None, None) {
        Ok(format) => format,
        Err(Rejection::NotHcl(_)) => Format::Hcl,
        Err(_) => Format::Sql,
    }
}

/// Returns a document's text.
fn readable(content: &[u8]) -> Result<&[u8], Rejection> {
    match decode(content) {
        Ok(text) => Ok(text),
        Err(_) => says_something(content).and(Err(Rejection::Utf16)),
    }
}

/// Refuses a document that declares nothing.
fn says_something(content: &[u8]) -> Result<(), Rejection> {
    match declares(content) {
        Declares::Something => Ok(()),
        Declares::Nothing => Err(Rejection::Empty),
        Declares::Imports => Err(Rejection::OnlyImports),
    }
}

/// The number of a document's declarations.
struct Items(usize);

impl Listener for Items {
    fn block(&mut self, _depth: usize, _kind: &[u8], _label: &[u8], _labels: usize) {
        self.0 += 1;
    }

    fn attribute(&mut self, _depth: usize, _name: &[u8], _value: ValueKind) {
        self.0 += 1;
    }
}

/// Checks a plan: exactly one block `plan "<name>"`, with the three strings `from`, `to` and
/// `migration` as its body.
///
/// # Errors
///
/// A [`Rejection`] that names the missing, unknown or wrong part.
pub fn check_plan(content: &[u8], name: &PlanName) -> Result<(), Rejection> {
    let text = readable(content)?;
    let mut plan = Plan::default();
    let recognised = recognise(text, &mut plan);
    if plan.items == 0 {
        says_something(content)?;
    }
    recognised.map_err(Rejection::PlanSyntax)?;
    let wrong = |why: String| Err(Rejection::Plan(why));
    match (plan.items, &plan.label) {
        (0, _) => Err(Rejection::Empty),
        (2.., _) => wrong("it must hold one plan block and nothing else".into()),
        (_, None) => wrong(r#"it must be a block plan "<name>" { … }"#.into()),
        (_, Some((labels, _))) if *labels != 1 => {
            wrong(format!("a plan has one label, this one has {labels}"))
        }
        (_, Some((_, label))) if label != name.as_str() => wrong(format!(
            "its label is {label:?} and its file name is {:?}: they must agree",
            name.as_str()
        )),
        _ => match (plan.wrong, plan.seen.iter().position(|seen| !seen)) {
            (Some(Wrong::Is(why)), _) => wrong(why),
            (Some(Wrong::Template { key, at }), _) => {
                let sign = sequence_sign(text, at);
                let why = format!(
                    "{sign}{{ starts a template sequence, and attribute {key:?} must be a plain \
                     string: for {sign}{{ itself write {sign}{sign}{{"
                );
                Err(Rejection::PlanSyntax(Syntax::at(text, at, why)))
            }
            (None, Some(missing)) => {
                let missing = PLAN_ATTRIBUTES.get(missing).unwrap_or(&"");
                wrong(format!("attribute {missing:?} is missing"))
            }
            (None, None) => Ok(()),
        },
    }
}

/// The attributes of a plan. All are required, and no other is allowed: Atlas's own decoder is as
/// strict.
const PLAN_ATTRIBUTES: [&str; 3] = ["from", "to", "migration"];

/// The parts of a plan that were found in a document.
#[derive(Default)]
struct Plan {
    /// The number of blocks and attributes.
    items: usize,
    /// The number of labels of the plan block, and the first label.
    label: Option<(usize, String)>,
    /// The attributes of a plan that were found.
    seen: [bool; PLAN_ATTRIBUTES.len()],
    /// The first error in the block's body.
    wrong: Option<Wrong>,
}

enum Wrong {
    Is(String),
    Template { key: &'static str, at: usize },
}

impl Listener for Plan {
    fn block(&mut self, depth: usize, kind: &[u8], label: &[u8], labels: usize) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match depth {
            0 => {
                self.items += 1;
                self.label = (kind == b"plan").then(|| (labels, text(label)));
            }
            _ => {
                let unknown = || Wrong::Is(format!("unknown block {:?}", text(kind)));
                self.wrong.get_or_insert_with(unknown);
            }
        }
    }

    fn attribute(&mut self, depth: usize, name: &[u8], value: ValueKind) {
        if depth == 0 {
            self.items += 1;
            return;
        }
        let mut known = PLAN_ATTRIBUTES.iter().zip(&mut self.seen);
        let wrong = match known.find(|(key, _)| key.as_bytes() == name) {
            None => Some(Wrong::Is(format!(
                "unknown attribute {:?}: a plan has from, to and migration",
                String::from_utf8_lossy(name)
            ))),
            Some((key, seen)) => {
                *seen = true;
                match value {
                    ValueKind::Text { is_empty: false } => None,
                    ValueKind::Text { is_empty: true } => {
                        Some(Wrong::Is(format!("attribute {key:?} is an empty string")))
                    }
                    ValueKind::Template { at } => Some(Wrong::Template { key, at }),
                    ValueKind::Other => Some(Wrong::Is(format!(
                        "attribute {key:?} must be a plain string"
                    ))),
                }
            }
        };
        self.wrong = self.wrong.take().or(wrong);
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
