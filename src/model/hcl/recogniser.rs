//! The recogniser: bodies, blocks and attributes, and the open brackets.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use super::scanner::{HclToken, Piece, ScanError, Scanner, Syntax};

/// The most open brackets. HashiCorp's parser is recursive without a limit, and crashes at some
/// 100,000 brackets. Real documents have ten.
const MAX_DEPTH: usize = 10_000;

/// The kind of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum ValueKind {
    /// A string or heredoc without references.
    Text { is_empty: bool },
    /// A string or heredoc with a sequence. `at` is the offset of the first `${` or `%{`.
    Template { at: usize },
    /// Any other expression.
    Other,
}

/// Receives the declarations of a document in order. `depth` is the depth of the body.
pub(in crate::model) trait Listener {
    /// A block starts. `_labels` is the number of its labels, and `_label` the first.
    fn block(&mut self, _depth: usize, _kind: &[u8], _label: &[u8], _labels: usize) {}
    /// An attribute has ended.
    fn attribute(&mut self, _depth: usize, _name: &[u8], _value: ValueKind) {}
    /// A heredoc has ended: the byte ranges of its marker, its text, and its closing line.
    fn heredoc(&mut self, _marker: Range<usize>, _text: Range<usize>, _closing: Range<usize>) {}
    /// A key of an object starts at a byte offset.
    fn key(&mut self, _start: usize) {}
    /// The last key that started has ended.
    fn key_end(&mut self, _end: usize) {}
    /// The value of that key has ended, with the comma after it. `object` is the object's start.
    fn item_end(&mut self, _object: usize, _end: usize) {}
}

/// Checks that a text, without its byte-order mark, is HCL.
///
/// # Errors
///
/// The first [`Syntax`] error.
pub(in crate::model) fn recognise(text: &[u8], listener: &mut impl Listener) -> Result<(), Syntax> {
    Recogniser::new(text, listener).run().map(drop)
}

/// The kind of an open bracket, body or template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// A block's body.
    Body,
    /// A block's body on one line, which has one attribute.
    Line,
    Parenthesis,
    /// The brackets of an index.
    Index,
    /// A function's arguments.
    Call,
    Tuple,
    /// An object, before a key's `=`.
    Key,
    /// An object, after a key's `=`.
    Item,
    /// A `for` expression, up to its colon.
    ForIn,
    /// The key of an object's `for`.
    ForKey,
    /// The value of a `for`.
    ForValue,
    /// The condition of a `for`.
    ForIf,
    /// A conditional, after its question mark.
    Then,
    /// A string or heredoc.
    Template,
    /// An interpolation, or the marker of a directive.
    Sequence,
    /// A directive, between its markers.
    If,
    Else,
    For,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    /// Line ends count here.
    pub(super) newlines: bool,
    /// The byte offset of its start.
    pub(super) at: usize,
}

/// The next expected part of the text.
pub(super) enum Expected {
    /// An attribute, a block, or the end of a body.
    Body,
    /// An operand of an expression.
    Operand,
    /// An operator, or another token that may follow an operand.
    Operator,
    /// The next part of a template. `is_fresh`: a line starts here.
    Template { is_fresh: bool },
}

/// The attribute whose value is being read.
#[derive(Debug, Default)]
pub(super) struct Attribute {
    name: Range<usize>,
    /// The first token of the value opens a template; `None` before that token.
    pub(super) is_template: Option<bool>,
    /// The end of the value's first template, and whether that template is empty.
    pub(super) template: Option<(usize, bool)>,
    /// The first sequence of the value.
    pub(super) sequence: Option<usize>,
}

pub(super) struct Recogniser<'a, 'l, L> {
    pub(super) scanner: Scanner<'a>,
    pub(super) listener: &'l mut L,
    pub(super) frames: Vec<Frame>,
    /// A token that was read, and belongs to the next state.
    pub(super) held: Option<HclToken>,
    /// The end of the token before the last one.
    pub(super) before: usize,
    /// The markers of the open templates; `None` for a quoted template.
    pub(super) markers: Vec<Option<Range<usize>>>,
    pub(super) attribute: Attribute,
    /// The operand has an attribute-only splat, which allows no second one.
    pub(super) is_splat: bool,
    /// The attributes of all bodies, as hashes of body and name. The hash keys are random. The
    /// names themselves would take three times the memory.
    names: HashSet<u64>,
    hasher: RandomState,
}

impl<'a, 'l, L: Listener> Recogniser<'a, 'l, L> {
    pub(super) fn new(text: &'a [u8], listener: &'l mut L) -> Self {
        Self {
            scanner: Scanner {
                text,
                start: 0,
                at: 0,
                ignored: None,
            },
            listener,
            frames: Vec::new(),
            held: None,
            before: 0,
            markers: Vec::new(),
            attribute: Attribute::default(),
            is_splat: false,
            names: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Reads the whole text; returns the ranges that the scanner ignored.
    pub(super) fn run(mut self) -> Result<Vec<Range<usize>>, Syntax> {
        let mut state = Ok(Some(Expected::Body));
        loop {
            state = match state {
                Ok(None) => return Ok(self.scanner.ignored.unwrap_or_default()),
                Ok(Some(Expected::Body)) => self.body(),
                Ok(Some(Expected::Operand)) => self.operand().map(Some),
                Ok(Some(Expected::Operator)) => self.operator().map(Some),
                Ok(Some(Expected::Template { is_fresh })) => self.template(is_fresh).map(Some),
                Err(fault) => return Err(self.explain(fault)),
            };
        }
    }

    /// Adds the start of the sequence to an error within `${…}`: the author may not have meant a
    /// sequence.
    fn explain(&self, fault: ScanError) -> Syntax {
        let text = self.scanner.text;
        let is_sequence = |frame: &&Frame| frame.kind == FrameKind::Sequence;
        match self.frames.iter().rfind(is_sequence) {
            Some(frame) => Syntax::at(text, frame.at, {
                let sign = sequence_sign(text, frame.at);
                let inner = Syntax::at(text, fault.at, fault.message);
                format!(
                    "{sign}{{ starts a template sequence that doesn't parse ({inner}); \
                     for {sign}{{ itself write {sign}{sign}{{"
                )
            }),
            None => Syntax::at(text, fault.at, fault.message),
        }
    }

    pub(super) fn next(&mut self) -> Result<HclToken, ScanError> {
        self.before = self.scanner.at;
        let newlines = self.frames.last().is_none_or(|frame| frame.newlines);
        self.scanner.next(newlines)
    }

    pub(super) fn held_or_next(&mut self) -> Result<HclToken, ScanError> {
        match self.held.take() {
            Some(token) => Ok(token),
            None => self.next(),
        }
    }

    /// Reads the next token, and fails if it is another one than `token`.
    pub(super) fn expect(&mut self, token: HclToken, message: &str) -> Result<(), ScanError> {
        match self.next()? == token {
            true => Ok(()),
            false => self.refuse(message),
        }
    }

    /// Refuses the last token.
    pub(super) fn refuse<T>(&self, message: &str) -> Result<T, ScanError> {
        ScanError::at(self.scanner.start, message)
    }

    /// Opens something that starts at a byte offset.
    pub(super) fn open(&mut self, kind: FrameKind, at: usize) -> Result<(), ScanError> {
        if self.frames.len() >= MAX_DEPTH {
            return self.refuse(&format!(
                "{MAX_DEPTH} brackets are open here: no parser takes more"
            ));
        }
        let newlines = match kind {
            FrameKind::Body | FrameKind::Line | FrameKind::Key => true,
            FrameKind::Then => self.frames.last().is_none_or(|frame| frame.newlines),
            _ => false,
        };
        let frame = Frame { kind, newlines, at };
        self.frames.push(frame);
        Ok(())
    }

    /// Changes the kind of the innermost frame.
    pub(super) fn becomes(&mut self, kind: FrameKind) -> Expected {
        if let Some(frame) = self.frames.last_mut() {
            frame.kind = kind;
        }
        Expected::Operand
    }

    /// Closes the innermost frame. With its bracket it is an operand.
    pub(super) fn close(&mut self) -> Expected {
        self.frames.pop();
        self.is_splat = false;
        Expected::Operator
    }

    pub(super) fn kind(&self) -> Option<FrameKind> {
        self.frames.last().map(|frame| frame.kind)
    }

    fn body(&mut self) -> Result<Option<Expected>, ScanError> {
        match (self.next()?, self.frames.last()) {
            (HclToken::Newline, _) => Ok(Some(Expected::Body)),
            (HclToken::End, None) => Ok(None),
            (HclToken::End, Some(block)) => ScanError::at(block.at, "this block has no closing }"),
            (HclToken::Sign(b'}'), Some(_)) => self.close_block().map(Some),
            (HclToken::Name, _) => self.item().map(Some),
            _ => self.refuse("an attribute (name = value) or a block is expected here"),
        }
    }

    fn item(&mut self) -> Result<Expected, ScanError> {
        let name = self.scanner.start..self.scanner.at;
        match self.next()? {
            HclToken::Sign(b'=') => self.begin_attribute(name),
            token @ (HclToken::Quote | HclToken::Name | HclToken::Sign(b'{')) => {
                self.block(name, token)
            }
            _ => self.refuse("after a name comes = and a value, or a block's labels and {"),
        }
    }

    fn begin_attribute(&mut self, name: Range<usize>) -> Result<Expected, ScanError> {
        let body = self.frames.last().map(|frame| frame.at);
        let text = self.scanner.text.get(name.clone()).unwrap_or_default();
        if !self.names.insert(self.hasher.hash_one((body, text))) {
            let text = String::from_utf8_lossy(text);
            let what = format!("attribute {text:?} is set twice in one body");
            return ScanError::at(name.start, what);
        }
        self.attribute = Attribute {
            name,
            ..Attribute::default()
        };
        Ok(Expected::Operand)
    }

    fn block(&mut self, kind: Range<usize>, mut token: HclToken) -> Result<Expected, ScanError> {
        let (mut first, mut labels) = (0..0, 0);
        loop {
            let label = match token {
                HclToken::Sign(b'{') => break,
                HclToken::Name => self.scanner.start..self.scanner.at,
                HclToken::Quote => {
                    let start = self.scanner.at;
                    if self.scanner.quoted()? != Piece::End {
                        return self.refuse("a label takes no ${ or %{: double the sign");
                    }
                    start..self.scanner.start
                }
                _ => return self.refuse("a block's labels and {, on one line, are expected here"),
            };
            if labels == 0 {
                first = label;
            }
            labels += 1;
            token = self.next()?;
        }
        let depth = self.frames.len();
        let text = |range| self.scanner.text.get(range).unwrap_or_default();
        let (kind, label) = (text(kind), text(first));
        self.listener.block(depth, kind, label, labels);
        self.open(FrameKind::Body, self.scanner.start)?;
        let after = self.scanner.at;
        match self.next()? {
            HclToken::Newline | HclToken::End | HclToken::Sign(b'}') => {
                self.scanner.at = after;
                Ok(Expected::Body)
            }
            HclToken::Name => {
                self.becomes(FrameKind::Line);
                let name = self.scanner.start..self.scanner.at;
                self.expect(
                    HclToken::Sign(b'='),
                    "a block on one line holds one attribute (name = value) and no block",
                )?;
                self.begin_attribute(name)
            }
            _ => self.refuse("an attribute (name = value) or } is expected here"),
        }
    }

    /// Reads the token that follows the expression of an attribute.
    pub(super) fn end_attribute(&mut self, token: HclToken) -> Result<Expected, ScanError> {
        let attribute = std::mem::take(&mut self.attribute);
        let value = match (attribute.is_template, attribute.template) {
            (Some(true), Some((end, is_empty))) if end == self.before => match attribute.sequence {
                None => ValueKind::Text { is_empty },
                Some(at) => ValueKind::Template { at },
            },
            _ => ValueKind::Other,
        };
        let name = self.scanner.text.get(attribute.name).unwrap_or_default();
        self.listener.attribute(self.frames.len(), name, value);
        match (self.kind(), token) {
            (Some(FrameKind::Line), HclToken::Sign(b'}')) => self.close_block(),
            (Some(FrameKind::Line), _) => {
                self.refuse("a block on one line holds one attribute: } is expected here")
            }
            (_, HclToken::Newline | HclToken::End) => Ok(Expected::Body),
            _ => self.refuse("the attribute's line must end here"),
        }
    }

    fn close_block(&mut self) -> Result<Expected, ScanError> {
        self.frames.pop();
        match self.next()? {
            HclToken::Newline | HclToken::End => Ok(Expected::Body),
            _ => self.refuse("the line must end after a block's }"),
        }
    }
}

/// Returns the sign that starts a template sequence.
pub(in crate::model) fn sequence_sign(text: &[u8], at: usize) -> char {
    match text.get(at) {
        Some(b'%') => '%',
        _ => '$',
    }
}
