//! The choice of `env` blocks, which comes before any evaluation.

use hcl::edit::expr::{Expression, TraversalOperator};
use hcl::edit::structure::{Block, Body};

use super::super::ConfigError;
use super::failure::Failure;
use super::file::{File, offset_of};
use super::graph::refers_to;
use super::repo::HOLDERS;
use super::scope::{Names, Scope};
use super::value::Value;

/// Returns the blocks of an env: those with its name for their one label, or else those without
/// a label whose name is exactly `atlas.env`. All others are never evaluated.
///
/// # Errors
///
/// [`ConfigError`] if there is none.
pub(crate) fn select<'a>(file: &'a File, name: &str) -> Result<Vec<&'a Block>, ConfigError> {
    let envs = || file.body.get_blocks("env");
    let labelled: Vec<_> = envs()
        .filter(|block| matches!(block.labels.as_slice(), [label] if label.as_str() == name))
        .collect();
    if !labelled.is_empty() {
        return Ok(labelled);
    }
    let unlabelled = || envs().filter(|block| block.labels.is_empty());
    let dynamic: Vec<_> = unlabelled()
        .filter(|block| is_dynamic(&block.body))
        .collect();
    if !dynamic.is_empty() {
        return Ok(dynamic);
    }
    match unlabelled().find(|block| block.body.get_attribute("name").is_none()) {
        Some(nameless) => Err(ConfigError::Invalid {
            place: file.place(offset_of(nameless)),
            message: format!("all envs must have names on file {:?}", file.name),
        }),
        None => Err(undefined(file, name)),
    }
}

/// Returns the error of an env that isn't there.
pub(crate) fn undefined(file: &File, name: &str) -> ConfigError {
    let mut known: Vec<_> = file
        .body
        .get_blocks("env")
        .filter_map(|block| block.labels.first())
        .map(|label| format!("{:?}", label.as_str()))
        .collect();
    known.dedup();
    ConfigError::NoEnv {
        name: name.into(),
        file: file.name.clone(),
        known: match known.as_slice() {
            [] => "it has no env blocks with a label".into(),
            known => format!("it has {}", known.join(", ")),
        },
    }
}

fn is_dynamic(body: &Body) -> bool {
    let name = body.get_attribute("name").map(|found| &found.value);
    let Some(Expression::Traversal(traversal)) = name else {
        return false;
    };
    let [step] = traversal.operators.as_slice() else {
        return false;
    };
    matches!(&traversal.expr, Expression::Variable(root) if root.as_str() == "atlas")
        && matches!(step.value(), TraversalOperator::GetAttr(name) if name.as_str() == "env")
}

/// Returns the names to evaluate a block with: once without `for_each`, else once an element.
///
/// # Errors
///
/// The [`Failure`] of `for_each`, if a `repo` block refers to `each`. Otherwise every element
/// has the same repositories, and a `for_each` that can't be evaluated does no harm.
pub(crate) fn instances<'n>(scope: &Scope<'_>, block: &Block) -> Result<Vec<Names<'n>>, Failure> {
    let Some(for_each) = block.body.get_attribute("for_each") else {
        return Ok(vec![Names::file()]);
    };
    match elements(scope, &for_each.value) {
        Ok(elements) => Ok(elements
            .into_iter()
            .map(|(key, value)| Names::each(key, value))
            .collect()),
        Err(_) if !repos_refer_to_each(block) => Ok(vec![Names::file()]),
        Err(failure) => Err(failure),
    }
}

fn elements(scope: &Scope<'_>, for_each: &Expression) -> Result<Vec<(Value, Value)>, Failure> {
    let value = scope.evaluate(for_each, &Names::file())?;
    let kind = value.kind();
    value.pairs().ok_or_else(|| {
        Failure::new(
            offset_of(for_each),
            format!("for_each needs a list, set, map or object, this is {kind}"),
        )
    })
}

fn repos_refer_to_each(env: &Block) -> bool {
    HOLDERS
        .iter()
        .flat_map(|holder| env.body.get_blocks(holder))
        .flat_map(|holder| holder.body.get_blocks("repo"))
        .any(|repo| refers_to(&repo.body, "each"))
}
