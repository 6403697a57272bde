//! References and the steps that follow them: `local.a.b`, `x[0]`, `x.*.name`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use hcl::edit::Decorated;
use hcl::edit::expr::{Expression, Traversal, TraversalOperator};

use super::error::{EvalError, EvalErrorKind};
use super::file::offset_of;
use super::graph::step_name;
use super::number::Number;
use super::scope::{Bindings, Scope};
use super::value::Value;

/// The most steps of one reference. The parser doesn't limit them, and splats recurse.
const MAX_STEPS: usize = 64;

type Steps<'a> = &'a [Decorated<TraversalOperator>];

impl Scope<'_> {
    /// Evaluates a name with no step after it.
    pub(crate) fn bare(
        &self,
        name: &str,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        if let Some(value) = names.get(name) {
            self.charge(value.measure().0, at)?;
            return Ok(value.clone());
        }
        match name {
            "atlas" => Ok(self.atlas()),
            "var" | "local" | "data" if names.sees_file => Err(EvalError::refused(
                at,
                format!("{name} alone is not supported here: write {name}.NAME"),
            )),
            _ => self
                .blocks(name, names)?
                .ok_or_else(|| unknown(name, at, names)),
        }
    }

    /// Evaluates a reference with its steps.
    pub(crate) fn traversal(
        &self,
        node: &Traversal,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let steps = node.operators.as_slice();
        if steps.len() > MAX_STEPS {
            return Err(EvalError::refused(
                at,
                format!("a reference has at most {MAX_STEPS} steps"),
            ));
        }
        let Expression::Variable(root) = &node.expr else {
            let value = self.eval(&node.expr, names)?;
            return self.walk(&value, steps, at, names);
        };
        let root = root.as_str();
        if let Some(value) = names.get(root) {
            return self.walk(value, steps, at, names);
        }
        let (name, rest) = match steps.split_first() {
            Some((first, rest)) => (step_name(first.value()), rest),
            None => (None, steps),
        };
        let value = match (root, name) {
            ("atlas", _) => return self.walk(&self.atlas(), steps, at, names),
            ("local", Some(name)) if names.sees_file => self.local(name, at)?,
            ("var", Some(name)) if names.sees_file => self.variable(name, at)?,
            ("data", Some(kind)) if names.sees_file => {
                let source = rest.first().and_then(|step| step_name(step.value()));
                let address = format!("data.{kind}.{}", source.unwrap_or("*"));
                return Err(EvalError::data(at, address));
            }
            ("local" | "var" | "data", None) if names.sees_file => {
                return Err(EvalError::refused(
                    at,
                    format!(
                        "a computed name after {root} is not supported here: write {root}.NAME"
                    ),
                ));
            }
            _ => match self.blocks(root, names)? {
                Some(blocks) => return self.walk(&blocks, steps, at, names),
                None => return Err(unknown(root, at, names)),
            },
        };
        self.walk(&value, rest, at, names)
    }

    fn atlas(&self) -> Value {
        let env = Value::from(self.inputs.env.unwrap_or_default());
        Value::Object(BTreeMap::from([("env".into(), env)]))
    }

    /// Follows the steps from a value, and clones only the value at their end.
    fn walk(
        &self,
        from: &Value,
        steps: Steps<'_>,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let mut value = from;
        let mut rest = steps;
        while let Some((step, after)) = rest.split_first() {
            self.charge(1, at)?;
            if let Value::Unknown(failure) = value {
                return Err(failure.as_ref().clone());
            }
            let key = match step.value() {
                TraversalOperator::GetAttr(name) => Cow::Owned(Value::from(name.as_str())),
                TraversalOperator::LegacyIndex(index) => Cow::Owned(Value::Number(Number::of(
                    usize::try_from(*index.value()).unwrap_or(usize::MAX),
                ))),
                TraversalOperator::Index(key) => Cow::Owned(self.eval(key, names)?),
                TraversalOperator::AttrSplat(_) => {
                    let own = after
                        .iter()
                        .take_while(|step| {
                            matches!(
                                step.value(),
                                TraversalOperator::GetAttr(_) | TraversalOperator::LegacyIndex(_)
                            )
                        })
                        .count();
                    let (own, after) = after.split_at_checked(own).unwrap_or((after, &[]));
                    let list = self.splat(value, own, at, names)?;
                    return self.walk(&list, after, at, names);
                }
                TraversalOperator::FullSplat(_) => return self.splat(value, after, at, names),
            };
            value = step_into(value, &key).map_err(|why| {
                // A computed key may be a secret; a literal key in the file is not.
                let named = step_name(step.value()).map(|name| format!(" {name:?}"));
                let offset = offset_of(step);
                EvalError::new(
                    if offset == 0 { at } else { offset },
                    why + &named.unwrap_or_default(),
                )
            })?;
            rest = after;
        }
        self.charge(value.measure().0, at)?;
        Ok(value.clone())
    }

    /// Follows the steps from every element. A value other than a list or set counts as one
    /// element, and null as none.
    fn splat(
        &self,
        value: &Value,
        steps: Steps<'_>,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let elements = match value {
            Value::Null => Vec::new(),
            other => other.elements().unwrap_or_else(|| vec![other]),
        };
        elements
            .into_iter()
            .map(|element| match self.walk(element, steps, at, names) {
                Err(failure) if matches!(failure.kind, EvalErrorKind::Data(_)) => {
                    Ok(Value::Unknown(Rc::new(failure)))
                }
                other => other,
            })
            .collect::<Result<_, _>>()
            .map(Value::List)
    }
}

/// Returns the element or attribute of a value.
pub(crate) fn step_into<'v>(value: &'v Value, key: &Value) -> Result<&'v Value, String> {
    match value {
        Value::Object(items) => {
            let key = key
                .to_text()
                .ok_or_else(|| format!("an object's key is a string, this is {}", key.kind()))?;
            items
                .get(&key)
                .ok_or_else(|| "this object has no such attribute".into())
        }
        Value::List(items) => {
            let index = key
                .to_number()
                .and_then(|number| number.to_i64())
                .ok_or("a list's index must be a whole number")?;
            usize::try_from(index)
                .ok()
                .and_then(|index| items.get(index))
                .ok_or_else(|| {
                    let count = items.len();
                    format!("there is no element {index}: the list has {count}")
                })
        }
        other => Err(format!(
            "only lists and objects have elements, this is {}",
            other.kind()
        )),
    }
}

fn unknown(name: &str, at: usize, names: &Bindings<'_>) -> EvalError {
    let known = match names.sees_file {
        true => "known are atlas, var, local, data, the types of blocks and, with for_each, each",
        false => "the default of a variable sees atlas.env only",
    };
    EvalError::new(at, format!("there is no variable named {name:?}: {known}"))
}
