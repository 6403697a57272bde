//! The evaluation of expressions.
//!
//! Every recursion here follows the nesting of the source, which the parser limits.

use std::collections::BTreeMap;
use std::rc::Rc;

use hcl::edit::Formatted;
use hcl::edit::expr::{
    BinaryOp, BinaryOperator, Conditional, Expression, ForExpr, FuncCall, Object, ObjectKey,
    UnaryOp, UnaryOperator,
};

use super::error::{EvalError, EvalErrorKind};
use super::file::offset_of;
use super::funcs::{self, Call, FunctionError};
use super::number::Number;
use super::scope::{Bindings, Scope};
use super::types::Type;
use super::value::{NUMBER_SIZE, Value};

impl Scope<'_> {
    /// Evaluates an expression whose locals have been evaluated. Parts of the value may be unknown;
    /// the value itself is not.
    pub(crate) fn eval(
        &self,
        expression: &Expression,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        match self.eval_node(expression, names)? {
            Value::Unknown(failure) => Err(failure.as_ref().clone()),
            value => Ok(value),
        }
    }

    /// Evaluates an element or attribute. If it needs a data source, it is unknown, and its
    /// siblings stay usable.
    fn part(&self, expression: &Expression, names: &Bindings<'_>) -> Result<Value, EvalError> {
        match self.eval(expression, names) {
            Err(failure) if matches!(failure.kind, EvalErrorKind::Data(_)) => {
                Ok(Value::Unknown(Rc::new(failure)))
            }
            other => other,
        }
    }

    fn eval_node(&self, expression: &Expression, names: &Bindings<'_>) -> Result<Value, EvalError> {
        let at = offset_of(expression);
        self.charge(1, at)?;
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value.value())),
            Expression::Number(number) => self.literal(number, at),
            Expression::String(text) => {
                self.charge(text.len(), at)?;
                Ok(Value::String(text.value().clone()))
            }
            Expression::Array(items) => items
                .iter()
                .map(|item| self.part(item, names))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Expression::Object(object) => self.object(object, names),
            Expression::StringTemplate(template) => self.quoted(template, names),
            Expression::HeredocTemplate(heredoc) => self.heredoc(heredoc, names),
            Expression::Parenthesis(inner) => self.eval(inner.inner(), names),
            Expression::Variable(name) => self.bare(name.as_str(), at, names),
            Expression::Traversal(traversal) => self.traversal(traversal, at, names),
            Expression::Conditional(conditional) => self.conditional(conditional, names),
            Expression::UnaryOp(operation) => self.unary(operation, names),
            Expression::BinaryOp(operation) => self.binary(operation, names),
            Expression::FuncCall(call) => self.call(call, at, names),
            Expression::ForExpr(expression) => self.for_expression(expression, at, names),
        }
    }

    fn object(&self, object: &Object, names: &Bindings<'_>) -> Result<Value, EvalError> {
        let mut out = BTreeMap::new();
        for (key, value) in object {
            let key = match key {
                ObjectKey::Ident(name) => name.as_str().to_string(),
                ObjectKey::Expression(Expression::Variable(name)) => name.as_str().to_string(),
                // A keyword is a name here.
                ObjectKey::Expression(Expression::Null(_)) => "null".into(),
                ObjectKey::Expression(key) => self.text(key, "an object's key", names)?,
            };
            out.insert(key, self.part(value.expr(), names)?);
        }
        Ok(Value::Object(out))
    }

    /// Evaluates to the chosen branch, converted to the common type of both branches. The other
    /// branch may fail: its type then converts nothing.
    fn conditional(&self, node: &Conditional, names: &Bindings<'_>) -> Result<Value, EvalError> {
        let (chosen, other) = match self.truth(&node.cond_expr, "a condition", names)? {
            true => (&node.true_expr, &node.false_expr),
            false => (&node.false_expr, &node.true_expr),
        };
        let value = self.eval(chosen, names)?;
        let other = match self.eval(other, names) {
            Ok(other) => Type::of(&other),
            Err(failure) if failure.kind == EvalErrorKind::Refused => return Ok(value),
            Err(_) => fixed_type(other),
        };
        self.charge(value.measure().0, offset_of(node))?;
        Type::common(vec![Type::of(&value), other])
            .and_then(|kind| kind.convert(value).ok())
            .ok_or_else(|| {
                EvalError::new(
                    offset_of(&node.true_expr),
                    "both results of a conditional must have a common type",
                )
            })
    }

    /// Parses a number from its source text: the parser's own form has only the digits of a 64-bit
    /// float.
    fn literal(&self, number: &Formatted<hcl::Number>, at: usize) -> Result<Value, EvalError> {
        self.charge(NUMBER_SIZE, at)?;
        let parsed = match number.as_repr() {
            // Blanks may separate a sign from its digits.
            Some(spelt) => Number::parse(&spelt.replace(char::is_whitespace, "")),
            None => number.value().as_f64().and_then(Number::from_f64),
        };
        parsed
            .map(Value::Number)
            .ok_or_else(|| EvalError::new(at, "the number is too large"))
    }

    fn unary(&self, node: &UnaryOp, names: &Bindings<'_>) -> Result<Value, EvalError> {
        match node.operator.value() {
            UnaryOperator::Not => Ok(Value::Bool(!self.truth(
                &node.expr,
                "the operand of !",
                names,
            )?)),
            UnaryOperator::Neg => {
                let number = self.number(&node.expr, "the operand of -", names)?;
                Ok(Value::Number(number.negate()))
            }
        }
    }

    fn binary(&self, node: &BinaryOp, names: &Bindings<'_>) -> Result<Value, EvalError> {
        let (left, right) = (&node.lhs_expr, &node.rhs_expr);
        let sign = node.operator.value();
        let what = format!("an operand of {}", sign.as_str());
        match sign {
            BinaryOperator::Eq | BinaryOperator::NotEq => {
                let (left, right) = (self.eval(left, names)?, self.eval(right, names)?);
                if let Some(failure) = left.unknown().or(right.unknown()) {
                    return Err(failure.clone());
                }
                let equal = left == right;
                return Ok(Value::Bool(equal == (*sign == BinaryOperator::Eq)));
            }
            BinaryOperator::And => {
                let both = self.truth(left, &what, names)? && self.truth(right, &what, names)?;
                return Ok(Value::Bool(both));
            }
            BinaryOperator::Or => {
                let either = self.truth(left, &what, names)? || self.truth(right, &what, names)?;
                return Ok(Value::Bool(either));
            }
            _ => {}
        }
        self.charge(NUMBER_SIZE, offset_of(node))?;
        let a = self.number(left, &what, names)?;
        let b = self.number(right, &what, names)?;
        let number = match sign {
            BinaryOperator::Less => return Ok(Value::Bool(a < b)),
            BinaryOperator::LessEq => return Ok(Value::Bool(a <= b)),
            BinaryOperator::Greater => return Ok(Value::Bool(a > b)),
            BinaryOperator::GreaterEq => return Ok(Value::Bool(a >= b)),
            BinaryOperator::Plus => a.add(&b),
            BinaryOperator::Minus => a.subtract(&b),
            BinaryOperator::Mul => a.multiply(&b),
            BinaryOperator::Div => a.divide(&b),
            _ => a.remainder(&b),
        };
        number.map(Value::Number).ok_or_else(|| {
            let why = match sign {
                BinaryOperator::Div | BinaryOperator::Mod if b.is_zero() => "division by zero",
                _ => "the result is too large a number",
            };
            EvalError::new(offset_of(node), why)
        })
    }

    fn call(&self, call: &FuncCall, at: usize, names: &Bindings<'_>) -> Result<Value, EvalError> {
        let name = call.name.name.as_str();
        if !call.name.namespace.is_empty() {
            return Err(EvalError::new(
                at,
                "functions with a namespace (::) are not supported",
            ));
        }
        match name {
            "try" => return self.try_each(call, at, names),
            "can" => {
                let mut args = call.args.iter();
                let (Some(arg), None) = (args.next(), args.next()) else {
                    return Err(EvalError::new(at, "can takes one argument"));
                };
                return match self.eval(arg, names) {
                    Ok(_) => Ok(Value::Bool(true)),
                    Err(failure) if failure.kind == EvalErrorKind::Error => Ok(Value::Bool(false)),
                    Err(failure) => Err(failure),
                };
            }
            _ => {}
        }
        let (arity, function) =
            funcs::find(name).ok_or_else(|| match funcs::is_left_out(name) {
                true => EvalError::refused(at, format!("not supported here: {name}")),
                false => EvalError::new(at, format!("there is no function named {name:?}")),
            })?;
        let mut args = Vec::new();
        let last = call.args.len().saturating_sub(1);
        for (index, arg) in call.args.iter().enumerate() {
            let value = self.eval(arg, names)?;
            if index < last || !call.args.expand_final() {
                args.push(value);
                continue;
            }
            match value {
                Value::List(items) => args.extend(items),
                Value::Set(items) => args.extend(items),
                other => {
                    let kind = other.kind();
                    return Err(EvalError::new(
                        offset_of(arg),
                        format!("the value before ... must be a list or set, it is {kind}"),
                    ));
                }
            }
        }
        if !funcs::passes_unknown(name)
            && let Some(failure) = args.iter().find_map(Value::unknown)
        {
            return Err(failure.clone());
        }
        let call = Call::new(&args, self);
        let result = call.takes(&arity).and_then(|()| function(&call));
        let value = result.map_err(|error| match error {
            FunctionError::Failed(why) => EvalError::new(at, format!("{name}: {why}")),
            FunctionError::Refused(why) => EvalError::refused(at, format!("{name}: {why}")),
        })?;
        self.charge(value.measure().0, at)?;
        Ok(value)
    }

    fn try_each(
        &self,
        call: &FuncCall,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let mut last = EvalError::new(at, "try takes at least one argument");
        for arg in call.args.iter() {
            match self.eval(arg, names) {
                Err(failure) if failure.kind == EvalErrorKind::Error => last = failure,
                other => return other,
            }
        }
        Err(last)
    }

    fn for_expression(
        &self,
        node: &ForExpr,
        at: usize,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let collection = self.eval(&node.intro.collection_expr, names)?;
        let key_name = node.intro.key_var.as_ref().map(|name| name.as_str());
        let pairs = self.pairs(collection, offset_of(&node.intro.collection_expr))?;
        let mut list = Vec::new();
        let mut object: BTreeMap<String, Value> = BTreeMap::new();
        for (key, value) in pairs {
            let names = Bindings::with(
                names,
                bind(key_name, key, node.intro.value_var.as_str(), value),
            );
            if let Some(condition) = &node.cond
                && !self.truth(&condition.expr, "the condition of for", &names)?
            {
                continue;
            }
            let Some(key_expr) = &node.key_expr else {
                list.push(self.part(&node.value_expr, &names)?);
                continue;
            };
            let key = self.text(key_expr, "a key of for", &names)?;
            let value = self.part(&node.value_expr, &names)?;
            if node.grouping {
                let group = object.entry(key).or_insert_with(|| Value::List(Vec::new()));
                if let Value::List(items) = group {
                    items.push(value);
                }
            } else if object.insert(key, value).is_some() {
                return Err(EvalError::new(
                    at,
                    "two elements of for have the same key: add ... to group them",
                ));
            }
        }
        Ok(match node.key_expr {
            Some(_) => Value::Object(object),
            None => Value::List(list),
        })
    }

    /// Returns the pairs of key and value that a `for` iterates over.
    pub(crate) fn pairs(
        &self,
        collection: Value,
        at: usize,
    ) -> Result<Vec<(Value, Value)>, EvalError> {
        let kind = collection.kind();
        collection.pairs().ok_or_else(|| {
            EvalError::new(
                at,
                format!("for needs a list, set, map or object, this is {kind}"),
            )
        })
    }

    /// Evaluates to a bool, with HCL's own conversions.
    pub(crate) fn truth(
        &self,
        node: &Expression,
        what: &str,
        names: &Bindings<'_>,
    ) -> Result<bool, EvalError> {
        let value = self.eval(node, names)?;
        let failure = || mismatch(node, what, "a bool", &value);
        value.to_bool().ok_or_else(failure)
    }

    fn number(
        &self,
        node: &Expression,
        what: &str,
        names: &Bindings<'_>,
    ) -> Result<Number, EvalError> {
        let value = self.eval(node, names)?;
        let failure = || mismatch(node, what, "a number", &value);
        value.to_number().ok_or_else(failure)
    }

    /// Evaluates to a string, with HCL's own conversions.
    pub(crate) fn text(
        &self,
        node: &Expression,
        what: &str,
        names: &Bindings<'_>,
    ) -> Result<String, EvalError> {
        let value = self.eval(node, names)?;
        let failure = || mismatch(node, what, "a string", &value);
        value.to_text().ok_or_else(failure)
    }
}

/// Pairs the names of a `for` with one element.
pub(crate) fn bind<'a>(
    key_name: Option<&'a str>,
    key: Value,
    value_name: &'a str,
    value: Value,
) -> Vec<(&'a str, Value)> {
    let mut bound = vec![(value_name, value)];
    bound.extend(key_name.map(|name| (name, key)));
    bound
}

/// Returns the type of an expression that is known even if the evaluation fails.
fn fixed_type(expression: &Expression) -> Type {
    match expression {
        Expression::StringTemplate(template) if template.as_single_element().is_none() => {
            Type::String
        }
        Expression::HeredocTemplate(_) => Type::String,
        Expression::Parenthesis(inner) => fixed_type(inner.inner()),
        Expression::UnaryOp(node) => match node.operator.value() {
            UnaryOperator::Not => Type::Bool,
            UnaryOperator::Neg => Type::Number,
        },
        Expression::BinaryOp(node) => match node.operator.value() {
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Mul
            | BinaryOperator::Div
            | BinaryOperator::Mod => Type::Number,
            _ => Type::Bool,
        },
        _ => Type::Any,
    }
}

fn mismatch(node: &Expression, what: &str, wanted: &str, value: &Value) -> EvalError {
    EvalError::new(
        offset_of(node),
        format!("{what} must be {wanted}, it is {}", value.kind()),
    )
}
