//! The references between locals: their order of evaluation, and cycles among them.

use std::collections::{BTreeMap, BTreeSet};

use hcl::edit::expr::{Expression, Traversal, TraversalOperator};
use hcl::edit::structure::{Attribute, Body};
use hcl::edit::visit::{Visit, visit_expr, visit_traversal};

use super::error::EvalError;
use super::file::offset_of;

/// The `locals` of a file as a graph.
pub(crate) struct Graph<'a> {
    locals: BTreeMap<&'a str, &'a Attribute>,
    references: BTreeMap<&'a str, BTreeSet<String>>,
    /// Every local, after those that it refers to.
    order: Vec<&'a str>,
}

impl<'a> Graph<'a> {
    /// Orders locals. Of two locals with one name the later one counts, as in Atlas.
    ///
    /// # Errors
    ///
    /// An [`EvalError`] that names a local of a cycle, even if no expression needs it: Atlas walks
    /// the whole graph too.
    pub(crate) fn new(attributes: impl Iterator<Item = &'a Attribute>) -> Result<Self, EvalError> {
        let locals: BTreeMap<_, _> = attributes
            .map(|attribute| (attribute.key.as_str(), attribute))
            .collect();
        let references: BTreeMap<_, _> = locals
            .iter()
            .map(|(name, attribute)| (*name, references(&attribute.value)))
            .collect();
        let mut graph = Self {
            locals,
            references,
            order: Vec::new(),
        };
        graph.sort()?;
        Ok(graph)
    }

    /// Sorts with an explicit stack, because a chain of locals may be as long as the file.
    fn sort(&mut self) -> Result<(), EvalError> {
        let mut done = BTreeSet::new();
        let mut open = BTreeSet::new();
        for root in self.locals.keys() {
            let mut stack = vec![(*root, false)];
            while let Some((name, visited)) = stack.pop() {
                if visited {
                    open.remove(name);
                    done.insert(name);
                    self.order.push(name);
                    continue;
                }
                if done.contains(name) {
                    continue;
                }
                open.insert(name);
                stack.push((name, true));
                for reference in self.references.get(name).into_iter().flatten() {
                    let Some((reference, attribute)) =
                        self.locals.get_key_value(reference.as_str())
                    else {
                        continue;
                    };
                    if open.contains(reference) {
                        let at = offset_of(*attribute);
                        return Err(EvalError::refused(
                            at,
                            format!("cyclic reference to \"local.{reference}\""),
                        ));
                    }
                    if !done.contains(reference) {
                        stack.push((reference, false));
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the locals that an expression needs, each after those that it refers to.
    pub(crate) fn needed_by(&self, expression: &Expression) -> Vec<&'a Attribute> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<String> = references(expression).into_iter().collect();
        while let Some(name) = open.pop() {
            if let Some((name, further)) = self.references.get_key_value(name.as_str())
                && needed.insert(*name)
            {
                open.extend(further.iter().cloned());
            }
        }
        if needed.is_empty() {
            return Vec::new();
        }
        self.order
            .iter()
            .filter(|name| needed.contains(*name))
            .filter_map(|name| self.locals.get(name).copied())
            .collect()
    }
}

/// Returns the names of the locals that an expression refers to.
fn references(expression: &Expression) -> BTreeSet<String> {
    struct References(BTreeSet<String>);
    impl Visit for References {
        fn visit_traversal(&mut self, node: &Traversal) {
            if let Expression::Variable(root) = &node.expr
                && root.as_str() == "local"
                && let Some(name) = node
                    .operators
                    .first()
                    .and_then(|step| step_name(step.value()))
            {
                self.0.insert(name.into());
            }
            visit_traversal(self, node);
        }
    }
    let mut found = References(BTreeSet::new());
    found.visit_expr(expression);
    found.0
}

/// Tells whether an expression within a body refers to a name.
pub(crate) fn refers_to(body: &Body, name: &str) -> bool {
    struct NameSearch<'n>(&'n str, bool);
    impl Visit for NameSearch<'_> {
        fn visit_expr(&mut self, node: &Expression) {
            if let Expression::Variable(found) = node {
                self.1 |= found.as_str() == self.0;
            }
            visit_expr(self, node);
        }
    }
    let mut search = NameSearch(name, false);
    search.visit_body(body);
    search.1
}

/// Returns the literal name in a step: `.name` or `["name"]`.
pub(crate) fn step_name(step: &TraversalOperator) -> Option<&str> {
    match step {
        TraversalOperator::GetAttr(name) => Some(name.as_str()),
        TraversalOperator::Index(Expression::String(name)) => Some(name.as_str()),
        _ => None,
    }
}
