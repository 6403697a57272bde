//! The types of variables, and the conversion of a value to one.

use std::collections::BTreeMap;

use hcl::edit::expr::{Expression, ObjectKey};

use super::value::Value;

/// A variable's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Number,
    Bool,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>),
    Tuple(Vec<Type>),
    Object(BTreeMap<String, Type>),
}

impl Type {
    /// Reads a type expression: `string`, `list(string)`, `object({a = bool})`.
    pub(crate) fn parse(expression: &Expression) -> Option<Self> {
        match expression {
            Expression::Parenthesis(inner) => Self::parse(inner.inner()),
            Expression::Variable(name) => match name.as_str() {
                "string" => Some(Type::String),
                // `int` is Atlas's old name.
                "number" | "int" => Some(Type::Number),
                "bool" => Some(Type::Bool),
                _ => None,
            },
            Expression::FuncCall(call) => {
                let mut args = call.args.iter();
                let (Some(arg), None) = (args.next(), args.next()) else {
                    return None;
                };
                let inner = || Self::parse(arg).map(Box::new);
                match call.name.name.as_str() {
                    "list" => inner().map(Type::List),
                    "set" => inner().map(Type::Set),
                    "map" => inner().map(Type::Map),
                    "tuple" => arg
                        .as_array()?
                        .iter()
                        .map(Self::parse)
                        .collect::<Option<_>>()
                        .map(Type::Tuple),
                    "object" => arg
                        .as_object()?
                        .iter()
                        .map(|(key, value)| Some((key_name(key)?, Self::parse(value.expr())?)))
                        .collect::<Option<_>>()
                        .map(Type::Object),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Returns the type's name for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Type::String => "string".into(),
            Type::Number => "number".into(),
            Type::Bool => "bool".into(),
            Type::List(inner) => format!("list of {}", inner.name()),
            Type::Set(inner) => format!("set of {}", inner.name()),
            Type::Map(inner) => format!("map of {}", inner.name()),
            Type::Tuple(_) => "tuple".into(),
            Type::Object(_) => "object".into(),
        }
    }

    /// Converts a value to the type. Null is a value of every type.
    ///
    /// # Errors
    ///
    /// What is required instead, in Atlas's words.
    pub(crate) fn convert(&self, value: Value) -> Result<Value, String> {
        let required = || format!("{} required", self.name());
        if value == Value::Null {
            return Ok(value);
        }
        match self {
            Type::String => value.to_text().map(Value::String).ok_or_else(required),
            Type::Number => value.to_number().map(Value::Number).ok_or_else(required),
            Type::Bool => value.to_bool().map(Value::Bool).ok_or_else(required),
            Type::List(inner) => elements(value, inner, required).map(Value::List),
            Type::Set(inner) => {
                let items = elements(value, inner, required)?;
                Ok(Value::Set(items.into_iter().collect()))
            }
            Type::Map(inner) => match value {
                Value::Object(items) => items
                    .into_iter()
                    .map(|(key, item)| Ok((key, inner.convert(item)?)))
                    .collect::<Result<_, _>>()
                    .map(Value::Object),
                _ => Err(required()),
            },
            Type::Tuple(types) => match value {
                Value::List(items) if items.len() == types.len() => items
                    .into_iter()
                    .zip(types)
                    .map(|(item, inner)| inner.convert(item))
                    .collect::<Result<_, _>>()
                    .map(Value::List),
                _ => Err(format!("tuple of {} elements required", types.len())),
            },
            Type::Object(types) => match value {
                Value::Object(mut items) => types
                    .iter()
                    .map(|(key, inner)| {
                        let item = items
                            .remove(key)
                            .ok_or_else(|| format!("attribute {key:?} is required"))?;
                        Ok((key.clone(), inner.convert(item)?))
                    })
                    .collect::<Result<_, _>>()
                    .map(Value::Object),
                _ => Err(required()),
            },
        }
    }

    /// Tells whether values of the type are lists or sets.
    pub(crate) fn is_sequence(&self) -> bool {
        matches!(self, Type::List(_) | Type::Set(_))
    }
}

fn elements(
    value: Value,
    inner: &Type,
    required: impl Fn() -> String,
) -> Result<Vec<Value>, String> {
    let items: Vec<Value> = match value {
        Value::List(items) => items,
        Value::Set(items) => items.into_iter().collect(),
        _ => return Err(required()),
    };
    items.into_iter().map(|item| inner.convert(item)).collect()
}

fn key_name(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(name) => Some(name.as_str().into()),
        ObjectKey::Expression(Expression::String(name)) => Some(name.as_str().into()),
        ObjectKey::Expression(Expression::Variable(name)) => Some(name.as_str().into()),
        ObjectKey::Expression(_) => None,
    }
}
