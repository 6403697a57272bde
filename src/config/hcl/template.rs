//! Templates: `"a ${b} c"`, heredocs, and `%{ if }` and `%{ for }` within them.

use std::borrow::Cow;

use hcl::edit::template::{
    Directive, Element, ForDirective, HeredocTemplate, IfDirective, Strip, Template,
};

use super::error::EvalError;
use super::error::MAX_TEXT;
use super::eval::bind;
use super::file::offset_of;
use super::scope::{Bindings, Scope};
use super::value::Value;

/// The context of a template.
#[derive(Clone, Copy, Default)]
struct Within {
    /// The marker before it, which may strip white space at its start.
    before: Option<Strip>,
    /// The marker after it, which may strip white space at its end.
    after: Option<Strip>,
    /// The spaces to remove from each of its lines: those of a `<<-` heredoc. The parser has
    /// removed them from the heredoc's own lines, but not from those within its directives.
    indent: usize,
    /// Whether it is within a directive.
    nested: bool,
}

impl Within {
    fn directive(self, before: Strip, after: Strip) -> Self {
        Self {
            before: Some(before),
            after: Some(after),
            nested: true,
            ..self
        }
    }
}

impl Scope<'_> {
    /// Evaluates a quoted template. A template with only one interpolation has the interpolation's
    /// value.
    pub(crate) fn quoted(
        &self,
        template: &Template,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        if let Some(Element::Interpolation(only)) = template.as_single_element() {
            return self.eval(&only.expr, names);
        }
        let mut out = String::new();
        self.template(template, Within::default(), names, &mut out)?;
        Ok(Value::String(out))
    }

    /// Evaluates a heredoc, which is always a string.
    pub(crate) fn heredoc(
        &self,
        heredoc: &HeredocTemplate,
        names: &Bindings<'_>,
    ) -> Result<Value, EvalError> {
        let within = Within {
            indent: heredoc.indent().unwrap_or(0),
            ..Within::default()
        };
        let mut out = String::new();
        self.template(&heredoc.template, within, names, &mut out)?;
        Ok(Value::String(out))
    }

    fn template(
        &self,
        template: &Template,
        within: Within,
        names: &Bindings<'_>,
        out: &mut String,
    ) -> Result<(), EvalError> {
        let mut previous = within.before;
        let mut elements = template.iter().peekable();
        while let Some(element) = elements.next() {
            let at = offset_of(element);
            let length = out.len();
            match element {
                Element::Literal(literal) => {
                    let next = elements.peek().map_or(within.after, |next| start_of(next));
                    let text = match within.nested && within.indent > 0 {
                        true => Cow::Owned(dedent(literal, within.indent)),
                        false => Cow::Borrowed(literal.as_str()),
                    };
                    let mut text = &*text;
                    if previous.is_some_and(Strip::strip_end) {
                        text = text.trim_start();
                    }
                    if next.is_some_and(Strip::strip_start) {
                        text = text.trim_end();
                    }
                    out.push_str(text);
                }
                Element::Interpolation(inner) => {
                    out.push_str(&self.text(&inner.expr, "a value within a string", names)?);
                }
                Element::Directive(directive) => match &**directive {
                    Directive::If(node) => self.if_directive(node, within, names, out)?,
                    Directive::For(node) => self.for_directive(node, within, names, out)?,
                },
            }
            previous = end_of(element);
            self.charge(1 + out.len().saturating_sub(length), at)?;
            if out.len() > MAX_TEXT {
                return Err(EvalError::refused(at, "the string grows beyond 1 MiB"));
            }
        }
        Ok(())
    }

    fn if_directive(
        &self,
        node: &IfDirective,
        within: Within,
        names: &Bindings<'_>,
        out: &mut String,
    ) -> Result<(), EvalError> {
        let (start, end) = (&node.if_expr, node.endif_expr.strip);
        let otherwise = node.else_expr.as_ref();
        if self.truth(&start.cond_expr, "the condition of %{ if }", names)? {
            let end = otherwise.map_or(end, |otherwise| otherwise.strip);
            let within = within.directive(start.strip, end);
            self.template(&start.template, within, names, out)
        } else if let Some(otherwise) = otherwise {
            let within = within.directive(otherwise.strip, end);
            self.template(&otherwise.template, within, names, out)
        } else {
            Ok(())
        }
    }

    fn for_directive(
        &self,
        node: &ForDirective,
        within: Within,
        names: &Bindings<'_>,
        out: &mut String,
    ) -> Result<(), EvalError> {
        let start = &node.for_expr;
        let within = within.directive(start.strip, node.endfor_expr.strip);
        let collection = self.eval(&start.collection_expr, names)?;
        let key_name = start.key_var.as_ref().map(|name| name.as_str());
        for (key, value) in self.pairs(collection, offset_of(&start.collection_expr))? {
            let bound = bind(key_name, key, start.value_var.as_str(), value);
            self.template(&start.template, within, &Bindings::with(names, bound), out)?;
        }
        Ok(())
    }
}

/// Removes up to this many spaces from every line but the first, which starts after a marker.
fn dedent(text: &str, indent: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let blank = line.bytes().take_while(|byte| *byte == b' ').count();
        let off = if index == 0 { 0 } else { blank.min(indent) };
        out.push_str(line.get(off..).unwrap_or_default());
    }
    out
}

/// Returns the strip marks at the start of an element.
fn start_of(element: &Element) -> Option<Strip> {
    match element {
        Element::Literal(_) => None,
        Element::Interpolation(interpolation) => Some(interpolation.strip),
        Element::Directive(directive) => Some(match &**directive {
            Directive::If(node) => node.if_expr.strip,
            Directive::For(node) => node.for_expr.strip,
        }),
    }
}

/// Returns the strip marks at the end of an element.
fn end_of(element: &Element) -> Option<Strip> {
    match element {
        Element::Literal(_) => None,
        Element::Interpolation(interpolation) => Some(interpolation.strip),
        Element::Directive(directive) => Some(match &**directive {
            Directive::If(node) => node.endif_expr.strip,
            Directive::For(node) => node.endfor_expr.strip,
        }),
    }
}
