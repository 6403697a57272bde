//! The choice of `env` blocks.

use hcl::edit::expr::{Expression, Traversal, TraversalOperator};
use hcl::edit::structure::Block;
use hcl::edit::visit::{Visit, visit_traversal};

use super::super::error::ConfigError;
use super::error::EvalError;
use super::file::{ConfigFile, offset_of};
use super::graph::refers_to;
use super::repo::{HOLDERS, report};
use super::scope::{Bindings, Scope};
use super::value::Value;

/// Returns the possible blocks of an env: those with its name as their one label; without any,
/// those without a label whose name uses `atlas.env`. All others are never evaluated.
///
/// # Errors
///
/// [`ConfigError`] if there is none.
pub(crate) fn select<'a>(file: &'a ConfigFile, name: &str) -> Result<Vec<&'a Block>, ConfigError> {
    let envs = || file.body.get_blocks("env");
    let labelled: Vec<_> = envs()
        .filter(|block| matches!(block.labels.as_slice(), [label] if label.as_str() == name))
        .collect();
    if !labelled.is_empty() {
        return Ok(labelled);
    }
    let unlabelled = || envs().filter(|block| block.labels.is_empty());
    let dynamic: Vec<_> = unlabelled().filter(|block| is_dynamic(block)).collect();
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

/// Tells whether a block is the env's: a block without a label is if its name evaluates to the
/// env's.
///
/// # Errors
///
/// [`ConfigError`] if the name can't be evaluated.
pub(crate) fn is_named(scope: &Scope<'_>, block: &Block, name: &str) -> Result<bool, ConfigError> {
    let own = match block.labels.is_empty() {
        true => block.body.get_attribute("name"),
        false => None,
    };
    let Some(own) = own else {
        return Ok(true);
    };
    let value = scope.evaluate(&own.value, &Bindings::file());
    let value = value.map_err(|failure| report(scope, "the name of an env", failure))?;
    Ok(value.to_text().is_some_and(|own| own == name))
}

/// Returns the error for an env that the file lacks.
pub(crate) fn undefined(file: &ConfigFile, name: &str) -> ConfigError {
    let of_it = |block: &&Block| is_dynamic(block) || label(block) == Some(name);
    let reached = file.body.get_blocks("env").find(of_it);
    let known = match reached.map(|block| (block, block.body.get_attribute("for_each"))) {
        Some((_, Some(for_each))) => format!(
            "its for_each ({}) has no elements, so there is no repository to mount",
            file.place(offset_of(&for_each.value))
        ),
        Some((block, None)) => format!(
            "the name of its env block ({}) changes with --env {name}",
            file.place(offset_of(block))
        ),
        None => labels(file),
    };
    ConfigError::NoEnv {
        name: name.into(),
        file: file.name.clone(),
        known,
    }
}

fn label(block: &Block) -> Option<&str> {
    block.labels.first().map(|label| label.as_str())
}

fn labels(file: &ConfigFile) -> String {
    let envs = file.body.get_blocks("env");
    let mut known: Vec<_> = envs
        .filter_map(label)
        .map(|label| format!("{label:?}"))
        .collect();
    known.dedup();
    match known.as_slice() {
        [] => "it has no env blocks with a label".into(),
        known => format!("it has {}", known.join(", ")),
    }
}

/// Tells whether a block without a label has a name that may use `atlas.env`, directly or not.
fn is_dynamic(block: &Block) -> bool {
    struct AtlasEnvSearch(bool);
    impl Visit for AtlasEnvSearch {
        fn visit_traversal(&mut self, node: &Traversal) {
            // A local may use it too; the evaluation shows that.
            self.0 |= is_atlas_env(node) || is_local(node);
            visit_traversal(self, node);
        }
    }
    let mut search = AtlasEnvSearch(false);
    if let (true, Some(name)) = (block.labels.is_empty(), block.body.get_attribute("name")) {
        search.visit_expr(&name.value);
    }
    search.0
}

fn is_atlas_env(node: &Traversal) -> bool {
    let [step] = node.operators.as_slice() else {
        return false;
    };
    matches!(&node.expr, Expression::Variable(root) if root.as_str() == "atlas")
        && matches!(step.value(), TraversalOperator::GetAttr(name) if name.as_str() == "env")
}

fn is_local(node: &Traversal) -> bool {
    matches!(&node.expr, Expression::Variable(root) if root.as_str() == "local")
}

/// Returns the names to evaluate a block with: one set without `for_each`, otherwise one set per
/// element.
///
/// # Errors
///
/// The [`EvalError`] of `for_each`, if a `repo` block refers to `each`. Otherwise every element has
/// the same repositories, and a `for_each` that can't be evaluated does no harm.
pub(crate) fn instances<'n>(
    scope: &Scope<'_>,
    block: &Block,
) -> Result<Vec<Bindings<'n>>, EvalError> {
    let Some(for_each) = block.body.get_attribute("for_each") else {
        return Ok(vec![Bindings::file()]);
    };
    match elements(scope, &for_each.value) {
        Ok(elements) => Ok(elements
            .into_iter()
            .map(|(key, value)| Bindings::each(key, value))
            .collect()),
        Err(_) if !repos_refer_to_each(block) => Ok(vec![Bindings::file()]),
        Err(failure) => Err(failure),
    }
}

fn elements(scope: &Scope<'_>, for_each: &Expression) -> Result<Vec<(Value, Value)>, EvalError> {
    let value = scope.evaluate(for_each, &Bindings::file())?;
    let kind = value.kind();
    value.pairs().ok_or_else(|| {
        EvalError::new(
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
