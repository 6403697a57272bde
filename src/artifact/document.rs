//! Schema states and plans as documents: their formats, and what is refused before any target
//! sees a byte of it.

use std::fmt;
use std::str::FromStr;

use hcl::expr::Expression;
use hcl::structure::Structure;

use super::PlanName;

/// The language of a document. Atlas tells them apart by the file's suffix.
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

/// Why a document is refused; the message says where (line and column) and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing is declared: as a desired state that would mean "drop everything".
    #[error(
        "the document is empty: as a desired state that would drop everything; \
         nothing was pushed (to delete an artifact, mount with --allow-delete and use rm)"
    )]
    Empty,
    /// The document should be HCL and doesn't parse.
    #[error("not valid HCL: {0} (a SQL schema is written as schema.sql)")]
    NotHcl(Syntax),
    /// An HCL state was about to become SQL by accident.
    #[error(
        "the schema state is HCL and the new document doesn't parse as HCL: {0} \
         (to change the state to SQL on purpose, write schema.sql)"
    )]
    HclToSql(Syntax),
    /// The plan doesn't parse.
    #[error("not a valid plan: {0}")]
    PlanSyntax(Syntax),
    /// The plan parses and isn't what a plan must be.
    #[error("not a valid plan: {0}")]
    Plan(String),
}

/// A syntax error and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What the parser expected.
    pub message: String,
}

impl fmt::Display for Syntax {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

/// The stack that a document is parsed on, in bytes. hcl-rs limits the depth of nesting, and may
/// take more for that depth than the 2 MiB of a thread of tokio's: a debug build did, for a document
/// that fuzzing has found. Only what is used of it takes memory.
const STACK: usize = 64 << 20;

/// Parses HCL, on a stack that suffices for whatever the bytes are.
fn parse(content: &[u8]) -> Result<hcl::Body, Syntax> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        match thread.spawn_scoped(scope, || parse_here(content)) {
            Ok(parsing) => parsing.join().unwrap_or_else(|_panic| {
                Err(Syntax {
                    line: 1,
                    column: 1,
                    message: "the parser met a bug; please report it".into(),
                })
            }),
            // This machine has no room for another thread; most documents need no more than this.
            Err(_) => parse_here(content),
        }
    })
}

/// Parses HCL on the stack of the caller.
fn parse_here(content: &[u8]) -> Result<hcl::Body, Syntax> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let before = content.get(..error.valid_up_to()).unwrap_or_default();
        Syntax {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: before
                .iter()
                .rev()
                .take_while(|&&byte| byte != b'\n')
                .count()
                + 1,
            message: "invalid UTF-8".into(),
        }
    })?;
    hcl::parse(text).map_err(|error| match error {
        hcl::Error::Parse(error) => Syntax {
            line: error.location().line(),
            column: error.location().column(),
            message: error.message().to_string(),
        },
        other => Syntax {
            line: 1,
            column: 1,
            message: other.to_string(),
        },
    })
}

/// Checks a schema state and decides its format.
///
/// `suffix` is the format that the file's name says (`schema.hcl`, `schema.sql`), `current` that
/// of the state to be replaced. Without a suffix the document is HCL if it parses as HCL and SQL
/// otherwise, except that an HCL state never becomes SQL.
///
/// # Errors
///
/// A [`Rejection`] for an empty document, for one that should be HCL and doesn't parse, and for
/// the accidental change from HCL to SQL.
pub fn check_schema(
    content: &[u8],
    suffix: Option<Format>,
    current: Option<Format>,
) -> Result<Format, Rejection> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err(Rejection::Empty);
    }
    let sql = |content| match declares_sql(content) {
        true => Ok(Format::Sql),
        false => Err(Rejection::Empty),
    };
    if suffix == Some(Format::Sql) {
        return sql(content);
    }
    match parse(content) {
        Ok(body) if body.iter().next().is_none() => Err(Rejection::Empty),
        Ok(_) => Ok(Format::Hcl),
        Err(syntax) => match (suffix, current) {
            (Some(_), _) => Err(Rejection::NotHcl(syntax)),
            (None, Some(Format::Hcl)) => Err(Rejection::HclToSql(syntax)),
            (None, _) => sql(content),
        },
    }
}

/// Tells whether a SQL document has anything besides white space, comments and semicolons.
fn declares_sql(content: &[u8]) -> bool {
    let mut rest = content;
    loop {
        rest = match rest {
            [] => return false,
            [b'-', b'-', tail @ ..] => after(tail, b"\n"),
            [b'/', b'*', tail @ ..] => after(tail, b"*/"),
            [byte, tail @ ..] if byte.is_ascii_whitespace() || *byte == b';' => tail,
            _ => return true,
        };
    }
}

/// Returns what follows the first `end` in `text`, or nothing.
fn after<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    text.windows(end.len())
        .position(|window| window == end)
        .and_then(|at| text.get(at + end.len()..))
        .unwrap_or_default()
}

/// Checks a plan: exactly one `plan "<name>"` block whose body is the three strings `from`, `to`
/// and `migration`.
///
/// # Errors
///
/// A [`Rejection`] that names what is missing, unknown or wrong.
pub fn check_plan(content: &[u8], name: &PlanName) -> Result<(), Rejection> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err(Rejection::Empty);
    }
    let body = parse(content).map_err(Rejection::PlanSyntax)?;
    let wrong = |why: String| Err(Rejection::Plan(why));
    let mut structures = body.iter();
    let plan = match (structures.next(), structures.next()) {
        (None, _) => return Err(Rejection::Empty),
        (Some(Structure::Block(block)), None) if block.identifier() == "plan" => block,
        (Some(_), None) => return wrong(r#"it must be a block plan "<name>" { … }"#.into()),
        (Some(_), Some(_)) => {
            return wrong("it must hold one plan block and nothing else".into());
        }
    };
    match plan.labels() {
        [label] if label.as_str() == name.as_str() => {}
        [label] => {
            return wrong(format!(
                "its label is {:?} and its file name is {:?}: they must agree",
                label.as_str(),
                name.as_str()
            ));
        }
        labels => {
            return wrong(format!(
                "a plan has one label, this one has {}",
                labels.len()
            ));
        }
    }
    check_plan_body(plan.body())
}

/// The attributes of a plan, all of them required, nothing else allowed (FIELD-NOTES: Atlas's
/// own decoder is as strict).
const PLAN_ATTRIBUTES: [&str; 3] = ["from", "to", "migration"];

fn check_plan_body(body: &hcl::Body) -> Result<(), Rejection> {
    let wrong = |why: String| Err(Rejection::Plan(why));
    let mut seen = Vec::new();
    for structure in body.iter() {
        let attribute = match structure {
            Structure::Attribute(attribute) => attribute,
            Structure::Block(block) => {
                return wrong(format!("unknown block {:?}", block.identifier()));
            }
        };
        let key = attribute.key();
        if !PLAN_ATTRIBUTES.contains(&key) {
            return wrong(format!(
                "unknown attribute {key:?}: a plan has from, to and migration"
            ));
        }
        if seen.contains(&key) {
            return wrong(format!("attribute {key:?} is set twice"));
        }
        seen.push(key);
        match string(attribute.expr()) {
            Some(text) if !text.is_empty() => {}
            Some(_) => return wrong(format!("attribute {key:?} is an empty string")),
            None => return wrong(format!("attribute {key:?} must be a plain string")),
        }
    }
    match PLAN_ATTRIBUTES.iter().find(|key| !seen.contains(key)) {
        Some(missing) => wrong(format!("attribute {missing:?} is missing")),
        None => Ok(()),
    }
}

/// Returns the text of a string or heredoc that refers to nothing.
fn string(expression: &Expression) -> Option<String> {
    use hcl::eval::{Context, Evaluate};
    match expression {
        Expression::String(_) | Expression::TemplateExpr(_) => {
            match expression.evaluate(&Context::new()).ok()? {
                hcl::Value::String(text) => Some(text),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HCL: &[u8] = b"schema \"public\" {}\n";
    const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

    #[test]
    fn the_format_is_what_the_suffix_says() {
        assert_eq!(check_schema(HCL, Some(Format::Hcl), None), Ok(Format::Hcl));
        assert_eq!(check_schema(SQL, Some(Format::Sql), None), Ok(Format::Sql));
        assert_eq!(
            check_schema(SQL, Some(Format::Sql), Some(Format::Hcl)),
            Ok(Format::Sql)
        );
    }

    #[test]
    fn plain_schema_is_hcl_if_it_parses_and_sql_otherwise() {
        assert_eq!(check_schema(HCL, None, None), Ok(Format::Hcl));
        assert_eq!(check_schema(SQL, None, None), Ok(Format::Sql));
        assert_eq!(check_schema(SQL, None, Some(Format::Sql)), Ok(Format::Sql));
        assert_eq!(check_schema(HCL, None, Some(Format::Sql)), Ok(Format::Hcl));
    }

    #[test]
    fn an_hcl_state_is_never_turned_into_sql_by_accident() {
        let rejection = check_schema(b"table \"x\" {\n  col = \n}\n", None, Some(Format::Hcl));
        let message = rejection.unwrap_err().to_string();
        assert!(message.contains("line 2, column"), "{message}");
        assert!(message.contains("schema.sql"), "{message}");
    }

    #[test]
    fn a_schema_that_should_be_hcl_must_parse() {
        let message = check_schema(SQL, Some(Format::Hcl), None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("line 1, column"), "{message}");
        let message = check_schema(b"a = 1\nb = \xff", Some(Format::Hcl), None);
        assert!(
            message
                .unwrap_err()
                .to_string()
                .contains("line 2, column 5: invalid UTF-8")
        );
    }

    #[test]
    fn a_document_that_declares_nothing_is_empty() {
        for nothing in [&b""[..], b"\n", b" \t\r\n"] {
            for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
                assert_eq!(check_schema(nothing, suffix, None), Err(Rejection::Empty));
            }
        }
        assert_eq!(check_schema(b"# only\n", None, None), Err(Rejection::Empty));
        for comments in [&b"-- a\n"[..], b"/* b */ ;\n-- c", b"/* open", b"--"] {
            let checked = check_schema(comments, Some(Format::Sql), None);
            assert_eq!(checked, Err(Rejection::Empty));
        }
    }

    fn plan(text: &str) -> Result<(), String> {
        let name = PlanName::parse("p1").unwrap();
        check_plan(text.as_bytes(), &name).map_err(|rejection| rejection.to_string())
    }

    #[test]
    fn a_plan_has_from_to_and_migration() {
        let good = "plan \"p1\" {\n from = \"a=\"\n to = \"b=\"\n migration = <<-SQL\n \
                    ALTER TABLE `t` ADD COLUMN `c` int;\n SQL\n}\n";
        assert_eq!(plan(good), Ok(()));
    }

    #[test]
    fn a_wrong_plan_is_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("plan \"p1\" {", "line 1, column"),
            ("a = 1", "must be a block plan"),
            (
                "plan \"p2\" {}",
                "its label is \"p2\" and its file name is \"p1\"",
            ),
            ("plan {}", "one label, this one has 0"),
            ("plan \"p1\" \"x\" {}", "one label, this one has 2"),
            (
                "plan \"p1\" {}\nplan \"p1\" {}",
                "one plan block and nothing else",
            ),
            (
                "plan \"p1\" {\n to = \"b\"\n migration = \"c\"\n}",
                "\"from\" is missing",
            ),
            (
                "plan \"p1\" {\n from = \"b\"\n migration = \"c\"\n}",
                "\"to\" is missing",
            ),
            (
                "plan \"p1\" {\n from = \"b\"\n to = \"c\"\n}",
                "\"migration\" is missing",
            ),
            (
                "plan \"p1\" {\n from = 1\n}",
                "\"from\" must be a plain string",
            ),
            (
                "plan \"p1\" {\n from = \"\"\n}",
                "\"from\" is an empty string",
            ),
            (
                "plan \"p1\" {\n from = \"${x}\"\n}",
                "\"from\" must be a plain string",
            ),
            (
                "plan \"p1\" {\n status = \"x\"\n}",
                "unknown attribute \"status\"",
            ),
            ("plan \"p1\" {\n from {}\n}", "unknown block \"from\""),
        ];
        for (text, reason) in cases {
            let message = plan(text).unwrap_err();
            assert!(message.contains(reason), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_check_needs_no_deep_stack_of_its_caller() {
        let check = || {
            for (open, close) in [
                ("[", "]"),
                ("(", ")"),
                ("{a=", "}"),
                ("f(", ")"),
                ("\"${", "}\""),
            ] {
                for depth in [10, 30, 60, 100] {
                    let text = format!("a = {}1{}\n", open.repeat(depth), close.repeat(depth));
                    let _ = check_schema(text.as_bytes(), Some(Format::Hcl), None);
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        thread.spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        for open in ["[", "(", "{a=", "f(", "\"${", "!", "-", "x ? 1 : ", "a {\n"] {
            let text = format!("a = {}", open.repeat(100_000));
            let _ = check_schema(text.as_bytes(), Some(Format::Hcl), None);
            let _ = check_schema(open.repeat(100_000).as_bytes(), None, None);
        }
    }
}
