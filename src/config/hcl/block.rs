//! Blocks as values: `store.main.url`, `env.prod.bucket`.

use std::collections::BTreeMap;
use std::rc::Rc;

use hcl::edit::expr::{Expression, FuncCall};
use hcl::edit::structure::{Attribute, Block, Body};
use hcl::edit::visit::{Visit, visit_expr};

use super::error::EvalError;
use super::file::offset_of;
use super::scope::{Bindings, Scope};
use super::value::Value;

/// The blocks of a file that no reference reaches by their type: Atlas gives their values other
/// names.
const UNNAMED: [&str; 4] = ["atlas", "data", "locals", "variable"];

impl Scope<'_> {
    /// Returns the blocks of one type as an object: by their label, or by both of two labels, or by
    /// their number if they have none. Blocks around the expression come before those of the file.
    /// `None` if there is no such block.
    pub(crate) fn blocks(
        &self,
        kind: &str,
        names: &Bindings<'_>,
    ) -> Result<Option<Value>, EvalError> {
        if !names.sees_file {
            return Ok(None);
        }
        for body in names.bodies() {
            if let Some(found) = self.object_of(body.get_blocks(kind))? {
                return Ok(Some(found));
            }
        }
        if UNNAMED.contains(&kind) {
            return Ok(None);
        }
        match kind {
            "env" => self.object_of(self.envs.iter().copied()),
            _ => self.object_of(self.file.body.get_blocks(kind)),
        }
    }

    fn object_of<'b>(
        &self,
        blocks: impl Iterator<Item = &'b Block>,
    ) -> Result<Option<Value>, EvalError> {
        let mut out = BTreeMap::new();
        let mut unlabelled = 0;
        for block in blocks {
            let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
            let (qualifier, name) = match labels.as_slice() {
                [] => {
                    unlabelled += 1;
                    (None, (unlabelled - 1).to_string())
                }
                [name] => (None, (*name).to_string()),
                [qualifier, name, ..] => (Some((*qualifier).to_string()), (*name).to_string()),
            };
            let value = self.attributes(&block.body, &name)?;
            match qualifier {
                None => {
                    out.insert(name, value);
                }
                Some(qualifier) => {
                    let group = out.entry(qualifier);
                    let group = group.or_insert_with(|| Value::Object(BTreeMap::new()));
                    if let Value::Object(items) = group {
                        items.insert(name, value);
                    }
                }
            }
        }
        Ok((!out.is_empty()).then_some(Value::Object(out)))
    }

    /// Makes an object of a block's attributes and of the blocks within it. As in Atlas, it
    /// contains only constants, so no reference can lead back to itself.
    fn attributes(&self, body: &Body, name: &str) -> Result<Value, EvalError> {
        let mut out = BTreeMap::from([("name".to_string(), Value::from(name))]);
        for attribute in body.attributes() {
            let value = match is_constant(&attribute.value) {
                true => self.eval(&attribute.value, &Bindings::atlas_only())?,
                false => Value::Unknown(Rc::new(no_constant(attribute))),
            };
            out.insert(attribute.key.as_str().into(), value);
        }
        for block in body.blocks() {
            let kind = block.ident.as_str();
            if out.contains_key(kind) && body.get_attribute(kind).is_none() {
                continue;
            }
            if let Some(inner) = self.object_of(body.get_blocks(kind))? {
                out.insert(kind.into(), inner);
            }
        }
        let out = Value::Object(out);
        self.charge(out.measure().0, offset_of(body))?;
        Ok(out)
    }
}

fn no_constant(attribute: &Attribute) -> EvalError {
    EvalError::new(
        offset_of(attribute),
        format!(
            "a reference to a block's attribute works for constants only, and {:?} is not one: \
             move its value to a local",
            attribute.key.as_str()
        ),
    )
}

/// Tells whether an expression has no references and no calls.
fn is_constant(expression: &Expression) -> bool {
    struct ConstantSearch(bool);
    impl Visit for ConstantSearch {
        fn visit_expr(&mut self, node: &Expression) {
            self.0 &= !matches!(node, Expression::Variable(_));
            visit_expr(self, node);
        }

        fn visit_func_call(&mut self, _: &FuncCall) {
            self.0 = false;
        }
    }
    let mut search = ConstantSearch(true);
    search.visit_expr(expression);
    search.0
}
