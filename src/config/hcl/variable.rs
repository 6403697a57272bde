//! `variable` blocks and the values that `--var` gives them.

use std::collections::BTreeMap;

use hcl::edit::expr::Expression;
use hcl::edit::structure::Block;

use super::super::ConfigError;
use super::failure::Failure;
use super::file::offset_of;
use super::scope::{Names, Scope};
use super::types::Type;
use super::value::Value;

/// A `variable` block.
pub(crate) struct Variable<'a> {
    pub(crate) name: &'a str,
    /// Where the block starts.
    pub(crate) offset: usize,
    kind: Option<&'a Expression>,
    default: Option<&'a Expression>,
}

impl<'a> Variable<'a> {
    pub(crate) fn new(block: &'a Block) -> Result<Self, Failure> {
        let offset = offset_of(block);
        let [name] = block.labels.as_slice() else {
            return Err(Failure::refused(
                offset,
                "a variable block has one label, its name: write variable \"name\" { … }",
            ));
        };
        let attribute = |key| block.body.get_attribute(key).map(|found| &found.value);
        Ok(Self {
            name: name.as_str(),
            offset,
            kind: attribute("type"),
            default: attribute("default"),
        })
    }

    /// Evaluates to the value given by `--var`, or else to the default, converted to the type.
    ///
    /// Only a variable that something kept refers to gets here, so an unset one that the mount
    /// has no use for does no harm.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, Failure> {
        let Some(kind) = self.kind else {
            return Err(Failure::refused(
                self.offset,
                format!("variable {:?} has no type: write type = string", self.name),
            ));
        };
        let Some(kind) = Type::parse(kind) else {
            return Err(Failure::refused(
                offset_of(kind),
                format!(
                    "invalid type for variable {:?}. Valid types are: string, number, bool, list, \
                     map, or set (also tuple and object), as in list(string)",
                    self.name
                ),
            ));
        };
        let value = match (
            scope.inputs.vars.get(self.name).map(Vec::as_slice),
            self.default,
        ) {
            // One value for a list is a list of one: who gives it need not know the type.
            (Some([one]), _) if !kind.is_sequence() => Value::from(one.as_str()),
            (Some(many), _) => Value::List(many.iter().map(|one| one.as_str().into()).collect()),
            (None, Some(default)) => match scope.eval(default, &Names::atlas_only())? {
                one @ (Value::String(_) | Value::Number(_) | Value::Bool(_))
                    if kind.is_sequence() =>
                {
                    Value::List(vec![one])
                }
                other => other,
            },
            (None, None) => {
                return Err(Failure::refused(
                    self.offset,
                    format!(
                        "missing value for required variable {:?}: give it with --var {}=…",
                        self.name, self.name
                    ),
                ));
            }
        };
        kind.convert(value)
            .map_err(|why| Failure::new(self.offset, format!("variable {:?}: {why}", self.name)))
    }
}

/// Reads the arguments of `--var`: each is one CSV record of `key=value`; a key given more than
/// once has several values.
///
/// # Errors
///
/// [`ConfigError::Var`] for what isn't `key=value`.
pub(crate) fn parse_vars(
    arguments: &[String],
) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for argument in arguments {
        let mut records = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(argument.as_bytes());
        let malformed = || {
            // The value may be a secret: only what can be a key is shown.
            let key = argument.split('=').next().unwrap_or_default();
            let shown = match argument.contains('=') {
                true => format!("{key}=…"),
                false => argument.clone(),
            };
            ConfigError::Var { argument: shown }
        };
        let mut record = csv::StringRecord::new();
        if !records.read_record(&mut record).map_err(|_| malformed())? {
            return Err(malformed());
        }
        for pair in &record {
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    out.entry(key.into()).or_default().push(value.into());
                }
                _ => return Err(malformed()),
            }
        }
    }
    Ok(out)
}
