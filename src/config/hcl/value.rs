//! Values of `atlas.hcl`, and HCL's implicit conversions.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::error::EvalError;
use super::number::Number;

/// The size of a number, in nodes: its digits cost as much to write and to read.
pub(crate) const NUMBER_SIZE: usize = 16;

/// A value. Lists also represent tuples, and objects represent maps: Atlas's configuration makes no
/// difference. Objects and sets are in HCL's order of iteration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Value>),
    Set(BTreeSet<Value>),
    Object(BTreeMap<String, Value>),
    Null,
    /// The reason why an element or attribute can't be evaluated here. Its siblings are usable; an
    /// expression never evaluates to it.
    Unknown(Rc<EvalError>),
}

impl Value {
    /// Returns the kind of the value for messages: the value itself may be a secret.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Set(_) => "a set",
            Value::Object(_) => "an object",
            Value::Unknown(_) => "not known",
        }
    }

    /// Returns the error of the first unknown part of the value.
    pub(crate) fn unknown(&self) -> Option<&EvalError> {
        match self {
            Value::Unknown(failure) => Some(failure),
            Value::List(items) => items.iter().find_map(Value::unknown),
            Value::Object(items) => items.values().find_map(Value::unknown),
            // Sets have only known elements.
            _ => None,
        }
    }

    /// Converts to a string, as HCL does if it needs one.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Converts to a number.
    pub(crate) fn to_number(&self) -> Option<Number> {
        match self {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => Number::parse(text),
            _ => None,
        }
    }

    /// Converts to a bool. HCL also accepts the spellings `"1"` and `"0"`.
    pub(crate) fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the elements of a list or set, with no conversion.
    pub(crate) fn elements(&self) -> Option<Vec<&Value>> {
        match self {
            Value::List(items) => Some(items.iter().collect()),
            Value::Set(items) => Some(items.iter().collect()),
            _ => None,
        }
    }

    /// Returns the pairs for a `for`: index and element of a list, element and element of a set,
    /// key and value of an object.
    pub(crate) fn pairs(self) -> Option<Vec<(Value, Value)>> {
        match self {
            Value::List(items) => Some(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| (Value::Number(Number::of(index)), item))
                    .collect(),
            ),
            Value::Set(items) => Some(items.into_iter().map(|item| (item.clone(), item)).collect()),
            Value::Object(items) => Some(
                items
                    .into_iter()
                    .map(|(key, item)| (Value::String(key), item))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Returns the value's size (one per node, one per byte of text, more for a number) and its
    /// depth.
    pub(crate) fn measure(&self) -> (usize, usize) {
        let inner = |items: &mut dyn Iterator<Item = (usize, &Value)>| {
            items.fold((1, 1), |(size, depth), (extra, item)| {
                let (item_size, item_depth) = item.measure();
                (size + extra + item_size, depth.max(item_depth + 1))
            })
        };
        match self {
            Value::Null | Value::Bool(_) | Value::Unknown(_) => (1, 1),
            Value::Number(_) => (NUMBER_SIZE, 1),
            Value::String(text) => (1 + text.len(), 1),
            Value::List(items) => inner(&mut items.iter().map(|item| (0, item))),
            Value::Set(items) => inner(&mut items.iter().map(|item| (0, item))),
            Value::Object(items) => inner(&mut items.iter().map(|(key, item)| (key.len(), item))),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Value::Number(number)
    }
}
