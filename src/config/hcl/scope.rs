//! The scope of an expression: `atlas.env`, variables, locals, blocks, and the names bound around
//! it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hcl::edit::expr::Expression;
use hcl::edit::structure::{Block, Body};

use super::super::error::ConfigError;
use super::error::{Budget, EvalError, EvalErrorKind};
use super::file::{ConfigFile, offset_of};
use super::graph::Graph;
use super::types::Type;
use super::value::Value;

/// The greatest nesting of a local's or variable's value: recursive code then needs only a limited
/// stack. Far beyond any real value.
const MAX_DEPTH: usize = 64;

/// The inputs of a load from outside of the file.
pub(crate) struct Inputs<'a> {
    /// The selected env's name.
    pub(crate) env: Option<&'a str>,
    /// The values of `--var`, by name, in their order.
    pub(crate) vars: BTreeMap<String, Vec<String>>,
    /// The process environment.
    pub(crate) getenv: &'a dyn Fn(&str) -> Option<String>,
}

/// The variables, locals and blocks of a file. Each is evaluated once, at its first use.
pub(crate) struct Scope<'a> {
    pub(crate) file: &'a ConfigFile,
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) budget: Budget,
    /// The evaluated env blocks; the file's others are ignored.
    pub(crate) envs: Vec<&'a Block>,
    variables: BTreeMap<&'a str, Variable<'a>>,
    locals: Graph<'a>,
    values: RefCell<BTreeMap<String, Outcome>>,
}

type Outcome = Result<Rc<Value>, EvalError>;

impl<'a> Scope<'a> {
    /// Collects the file's variables and locals.
    ///
    /// # Errors
    ///
    /// A [`EvalError`] for a cycle among locals and a malformed `variable` block.
    pub(crate) fn new(
        file: &'a ConfigFile,
        inputs: &'a Inputs<'a>,
        envs: Vec<&'a Block>,
    ) -> Result<Self, EvalError> {
        let variables = file
            .body
            .get_blocks("variable")
            .map(|block| Variable::new(block).map(|variable| (variable.name, variable)))
            .collect::<Result<_, _>>()?;
        let locals = file
            .body
            .get_blocks("locals")
            .flat_map(|block: &Block| block.body.attributes());
        Ok(Self {
            file,
            inputs,
            budget: Budget::new(),
            envs,
            variables,
            locals: Graph::new(locals)?,
            values: RefCell::default(),
        })
    }

    /// Evaluates an expression, and before it the locals that it needs: one after the other, so
    /// that a long chain of them needs no deep stack.
    ///
    /// # Errors
    ///
    /// The [`EvalError`] of the expression, or of a local or variable that it uses.
    pub(crate) fn evaluate(
        &self,
        expression: &Expression,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        for local in self.locals.needed_by(expression) {
            let key = format!("local.{}", local.key.as_str());
            if !self.values.borrow().contains_key(&key) {
                let value = self.eval(&local.value, &Bindings::file());
                let outcome = checked(value, offset_of(local));
                self.values.borrow_mut().insert(key, outcome);
            }
        }
        self.eval(expression, names)
    }

    /// Returns a local's value. Locals are evaluated before the expressions that use them.
    pub(crate) fn local(&self, name: &str, offset: usize) -> Outcome {
        match self.values.borrow().get(&format!("local.{name}")) {
            Some(outcome) => outcome.clone(),
            None => Err(EvalError::new(
                offset,
                format!("there is no local {name:?}: declare it in a locals block"),
            )),
        }
    }

    /// Returns a variable's value, evaluated at its first use.
    pub(crate) fn variable(&self, name: &str, offset: usize) -> Outcome {
        let key = format!("var.{name}");
        if let Some(outcome) = self.values.borrow().get(&key) {
            return outcome.clone();
        }
        let Some(variable) = self.variables.get(name) else {
            return Err(EvalError::new(
                offset,
                format!("there is no variable {name:?}: declare it in a variable block"),
            ));
        };
        let outcome = checked(variable.evaluate(self), variable.offset);
        self.values.borrow_mut().insert(key, outcome.clone());
        outcome
    }

    /// Subtracts units of work from the budget.
    pub(crate) fn charge(&self, units: usize, offset: usize) -> Result<(), EvalError> {
        self.budget
            .charge(units)
            .map_err(|message| EvalError::refused(offset, message))
    }
}

/// Checks the value of a local or variable. If it has none, Atlas refuses the whole file, so a
/// `try` around the reference doesn't catch the error.
fn checked(value: Result<Value, EvalError>, offset: usize) -> Outcome {
    match value {
        Ok(value) if value.measure().1 > MAX_DEPTH => Err(EvalError::refused(
            offset,
            format!("the value nests more than {MAX_DEPTH} levels deep"),
        )),
        Ok(value) => Ok(Rc::new(value)),
        Err(failure) if failure.kind == EvalErrorKind::Error => {
            Err(EvalError::refused(failure.offset, failure.message))
        }
        Err(failure) => Err(failure),
    }
}

/// The names bound around an expression: `each`, and those of `for`.
pub(crate) struct Bindings<'a> {
    bound: Vec<(&'a str, Value)>,
    /// The bodies around the expression, the outermost first; references can reach their blocks.
    bodies: Vec<&'a Body>,
    outer: Option<&'a Bindings<'a>>,
    /// Whether references can reach `var`, `local` and `data`.
    pub(crate) sees_file: bool,
}

impl<'a> Bindings<'a> {
    /// No bound names; references can reach the file's variables and locals.
    pub(crate) fn file() -> Self {
        Self {
            bound: Vec::new(),
            bodies: Vec::new(),
            outer: None,
            sees_file: true,
        }
    }

    /// No bound names, and only `atlas.env` as a reference: for the defaults of variables.
    pub(crate) fn atlas_only() -> Self {
        Self {
            sees_file: false,
            ..Self::file()
        }
    }

    /// Binds names in front of the existing ones.
    pub(crate) fn with(outer: &'a Bindings<'a>, bound: Vec<(&'a str, Value)>) -> Self {
        Self {
            bound,
            bodies: Vec::new(),
            sees_file: outer.sees_file,
            outer: Some(outer),
        }
    }

    /// Makes the blocks of bodies visible, the outermost body first.
    pub(crate) fn within(outer: &'a Bindings<'a>, bodies: Vec<&'a Body>) -> Self {
        Self {
            bodies,
            ..Self::with(outer, Vec::new())
        }
    }

    /// Returns the bodies around the expression, the innermost first.
    pub(crate) fn bodies(&self) -> Vec<&Body> {
        let own = self.bodies.iter().rev().copied();
        let outer = self.outer.map(Bindings::bodies).unwrap_or_default();
        own.chain(outer).collect()
    }

    /// Binds `each.key` and `each.value`.
    pub(crate) fn each(key: Value, value: Value) -> Self {
        let each = BTreeMap::from([("key".into(), key), ("value".into(), value)]);
        Self {
            bound: vec![("each", Value::Object(each))],
            ..Self::file()
        }
    }

    /// Returns the value of the innermost binding of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let bound = self.bound.iter().find(|(bound, _)| *bound == name);
        match bound {
            Some((_, value)) => Some(value),
            None => self.outer.and_then(|outer| outer.get(name)),
        }
    }
}

/// A `variable` block.
pub(crate) struct Variable<'a> {
    pub(crate) name: &'a str,
    /// The start of the block.
    pub(crate) offset: usize,
    kind: Option<&'a Expression>,
    default: Option<&'a Expression>,
}

impl<'a> Variable<'a> {
    pub(crate) fn new(block: &'a Block) -> Result<Self, EvalError> {
        let offset = offset_of(block);
        let [name] = block.labels.as_slice() else {
            return Err(EvalError::refused(
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
    /// Only variables that the mount needs are evaluated, so an unset one that it doesn't need does
    /// no harm.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvalError> {
        let Some(kind) = self.kind else {
            return Err(EvalError::refused(
                self.offset,
                format!("variable {:?} has no type: write type = string", self.name),
            ));
        };
        let Some(kind) = Type::parse(kind) else {
            return Err(EvalError::refused(
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
            // One value for a list is a list with one element: the user need not know the type.
            (Some([one]), _) if !kind.is_sequence() => Value::from(one.as_str()),
            (Some(many), _) => Value::List(many.iter().map(|one| one.as_str().into()).collect()),
            (None, Some(default)) => match scope.eval(default, &Bindings::atlas_only())? {
                one @ (Value::String(_) | Value::Number(_) | Value::Bool(_))
                    if kind.is_sequence() =>
                {
                    Value::List(vec![one])
                }
                other => other,
            },
            (None, None) => {
                return Err(EvalError::refused(
                    self.offset,
                    format!(
                        "missing value for required variable {:?}: give it with --var {}=…",
                        self.name, self.name
                    ),
                ));
            }
        };
        kind.convert(value)
            .map_err(|why| EvalError::new(self.offset, format!("variable {:?}: {why}", self.name)))
    }
}

/// Reads the arguments of `--var`: each is one CSV record of `key=value`; a key given more than
/// once has several values.
///
/// # Errors
///
/// [`ConfigError::Var`] for an argument that isn't `key=value`.
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
            // The value may be a secret, so show only the key.
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
