//! Types: those of variables, the common types of values, and the conversion to a type.

use std::collections::BTreeMap;

use hcl::edit::expr::{Expression, ObjectKey};

use super::value::Value;

/// The type of a variable or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// The type of null, and of an unknown value.
    Any,
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

    /// Returns a value's type. Lists are tuples here, and maps objects.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Unknown(_) => Type::Any,
            Value::Bool(_) => Type::Bool,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::List(items) => Type::Tuple(items.iter().map(Self::of).collect()),
            Value::Set(items) => {
                let inner = Self::common(items.iter().map(Self::of).collect());
                Type::Set(Box::new(inner.unwrap_or(Type::Any)))
            }
            Value::Object(items) => Type::Object(
                items
                    .iter()
                    .map(|(key, item)| (key.clone(), Self::of(item)))
                    .collect(),
            ),
        }
    }

    /// Returns the type that values of all of these types convert to, by cty's rules.
    pub(crate) fn common(mut types: Vec<Self>) -> Option<Self> {
        types.retain(|one| *one != Type::Any);
        let Some(first) = types.first().cloned() else {
            return Some(Type::Any);
        };
        if types.iter().all(|one| *one == first) {
            return Some(first);
        }
        let is_primitive = |one: &Self| matches!(one, Type::String | Type::Number | Type::Bool);
        if types.iter().all(is_primitive) {
            return types.contains(&Type::String).then_some(Type::String);
        }
        let is_object = |one: &Self| matches!(one, Type::Object(_));
        if types.iter().all(is_object) {
            return Self::common_object(types);
        }
        let lengths: Option<Vec<usize>> = types.iter().map(Self::tuple_length).collect();
        if lengths.is_some_and(|lengths| lengths.windows(2).all(|pair| pair.first() == pair.last()))
        {
            return columns(types)
                .map(Self::common)
                .collect::<Option<_>>()
                .map(Type::Tuple);
        }
        let any_set = types.iter().any(|one| matches!(one, Type::Set(_)));
        let inner = types.into_iter().map(Self::into_elements);
        let inner = inner.collect::<Option<Vec<_>>>()?.concat();
        let inner = Box::new(Self::common(inner)?);
        Some(match any_set {
            true => Type::Set(inner),
            false => Type::List(inner),
        })
    }

    /// Objects with the same attributes have an object in common, others a map.
    fn common_object(types: Vec<Self>) -> Option<Self> {
        let count = types.len();
        let mut attributes: BTreeMap<String, Vec<Type>> = BTreeMap::new();
        for one in types {
            if let Type::Object(items) = one {
                for (key, inner) in items {
                    attributes.entry(key).or_default().push(inner);
                }
            }
        }
        if attributes.values().all(|inner| inner.len() == count) {
            let attributes = attributes.into_iter();
            return attributes
                .map(|(key, inner)| Some((key, Self::common(inner)?)))
                .collect::<Option<_>>()
                .map(Type::Object);
        }
        let inner = attributes.into_values().flatten().collect();
        Self::common(inner).map(Box::new).map(Type::Map)
    }

    fn tuple_length(&self) -> Option<usize> {
        match self {
            Type::Tuple(items) => Some(items.len()),
            _ => None,
        }
    }

    fn into_elements(self) -> Option<Vec<Self>> {
        match self {
            Type::Tuple(items) => Some(items),
            Type::Set(inner) => Some(vec![*inner]),
            _ => None,
        }
    }

    /// Returns the type's name for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Type::Any => "any".into(),
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

    /// Converts a value to the type. Null is a value of every type, and an unknown value stays
    /// unknown.
    ///
    /// # Errors
    ///
    /// The required type, in Atlas's words.
    pub(crate) fn convert(&self, value: Value) -> Result<Value, String> {
        let required = || format!("{} required", self.name());
        if matches!(value, Value::Null | Value::Unknown(_)) {
            return Ok(value);
        }
        match self {
            Type::Any => Ok(value),
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

/// Converts values to their common type, as for the elements of a list or set; `None` if there is
/// no such type.
pub(crate) fn unified(items: Vec<Value>) -> Option<Vec<Value>> {
    let kind = Type::common(items.iter().map(Type::of).collect())?;
    let items = items.into_iter().map(|item| kind.convert(item));
    items.collect::<Result<_, _>>().ok()
}

/// Returns the types at each position of tuples of one length.
fn columns(tuples: Vec<Type>) -> impl Iterator<Item = Vec<Type>> {
    let mut columns: Vec<Vec<Type>> = Vec::new();
    for tuple in tuples {
        for (place, inner) in tuple.into_elements().into_iter().flatten().enumerate() {
            match columns.get_mut(place) {
                Some(column) => column.push(inner),
                None => columns.push(vec![inner]),
            }
        }
    }
    columns.into_iter()
}

fn key_name(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(name) => Some(name.as_str().into()),
        ObjectKey::Expression(Expression::String(name)) => Some(name.as_str().into()),
        ObjectKey::Expression(Expression::Variable(name)) => Some(name.as_str().into()),
        ObjectKey::Expression(_) => None,
    }
}
