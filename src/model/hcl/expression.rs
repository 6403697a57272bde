//! The recogniser's expressions and templates.

use super::recogniser::{Expected, FrameKind, Listener, Recogniser};
use super::scanner::{HclToken, Piece, ScanError};

impl<L: Listener> Recogniser<'_, '_, L> {
    pub(super) fn operand(&mut self) -> Result<Expected, ScanError> {
        let token = self.held_or_next()?;
        let is_template = matches!(token, HclToken::Quote | HclToken::Heredoc);
        self.attribute.is_template.get_or_insert(is_template);
        self.is_splat = false;
        match token {
            HclToken::Sign(b'-' | b'!') => Ok(Expected::Operand),
            HclToken::Number { .. } => Ok(Expected::Operator),
            HclToken::Name => self.reference(),
            HclToken::Sign(b'(') => {
                self.open(FrameKind::Parenthesis, self.scanner.start)?;
                Ok(Expected::Operand)
            }
            HclToken::Sign(b'[') => {
                self.open(FrameKind::Tuple, self.scanner.start)?;
                let state = self.next_of(b']')?;
                match self.held {
                    Some(HclToken::Name) if self.scanner.slice() == b"for" => {
                        self.held = None;
                        self.becomes(FrameKind::ForIn);
                        self.for_names()
                    }
                    _ => Ok(state),
                }
            }
            HclToken::Sign(b'{') => self.object(),
            HclToken::Quote => {
                self.open(FrameKind::Template, self.scanner.at)?;
                self.markers.push(None);
                Ok(Expected::Template { is_fresh: false })
            }
            HclToken::Heredoc => {
                let line = self.scanner.slice();
                let dash = usize::from(line.starts_with(b"<<-"));
                let end = if line.ends_with(b"\r\n") { 2 } else { 1 };
                let marker = self.scanner.start + 2 + dash..self.scanner.at - end;
                self.markers.push(Some(marker));
                self.open(FrameKind::Template, self.scanner.at)?;
                Ok(Expected::Template { is_fresh: true })
            }
            _ => self.refuse("an expression is expected here"),
        }
    }

    /// Reads an operator, or the token that ends the expression.
    pub(super) fn operator(&mut self) -> Result<Expected, ScanError> {
        match self.held_or_next()? {
            HclToken::Sign(b'.') => match self.next()? {
                HclToken::Name | HclToken::Number { is_decimal: false } => Ok(Expected::Operator),
                HclToken::Number { .. } => self.refuse("two indexes in a row are written [0][1]"),
                HclToken::Sign(b'*') if self.is_splat => {
                    self.refuse("a second splat is written [*]")
                }
                HclToken::Sign(b'*') => {
                    self.is_splat = true;
                    Ok(Expected::Operator)
                }
                _ => self.refuse("an attribute's name is expected after the dot"),
            },
            HclToken::Sign(b'[') => {
                let (start, after) = (self.scanner.start, self.scanner.at);
                if self.next()? == HclToken::Sign(b'*') {
                    self.is_splat = false;
                    self.expect(HclToken::Sign(b']'), "] is expected after [*")?;
                    return Ok(Expected::Operator);
                }
                self.scanner.at = after;
                self.open(FrameKind::Index, start)?;
                Ok(Expected::Operand)
            }
            HclToken::Sign(b'?') => {
                self.open(FrameKind::Then, self.scanner.start)?;
                Ok(Expected::Operand)
            }
            HclToken::Operator | HclToken::Sign(b'*' | b'/' | b'%' | b'+' | b'-' | b'<' | b'>') => {
                Ok(Expected::Operand)
            }
            token => self.end_expression(token),
        }
    }

    /// Reads the token that follows an expression. The innermost frame decides which tokens are
    /// legal.
    fn end_expression(&mut self, token: HclToken) -> Result<Expected, ScanError> {
        let Some(frame) = self.frames.last() else {
            return self.end_attribute(token);
        };
        let is_object = self.scanner.text.get(frame.at) == Some(&b'{');
        let closing = if is_object { b'}' } else { b']' };
        match (frame.kind, token) {
            (FrameKind::Body | FrameKind::Line, token) => self.end_attribute(token),
            (FrameKind::Then, HclToken::Sign(b':')) => {
                self.close();
                Ok(Expected::Operand)
            }
            (FrameKind::Then, _) => self.refuse("a conditional needs : and its second value here"),
            (FrameKind::Parenthesis | FrameKind::Call, HclToken::Sign(b')'))
            | (FrameKind::Index | FrameKind::Tuple, HclToken::Sign(b']')) => Ok(self.close()),
            (FrameKind::Call, HclToken::Sign(b',')) => self.next_of(b')'),
            (FrameKind::Call, HclToken::Ellipsis) => {
                self.expect(HclToken::Sign(b')'), ") is expected after ...")?;
                Ok(self.close())
            }
            (FrameKind::Tuple, HclToken::Sign(b',')) => self.next_of(b']'),
            (FrameKind::Key, HclToken::Sign(b'=' | b':')) => {
                self.listener.key_end(self.scanner.start);
                Ok(self.becomes(FrameKind::Item))
            }
            (FrameKind::Item, HclToken::Sign(b'}')) => {
                self.listener.item_end(frame.at, self.scanner.start);
                Ok(self.close())
            }
            (FrameKind::Item, HclToken::Sign(b',')) => {
                self.listener.item_end(frame.at, self.scanner.at);
                self.key()
            }
            (FrameKind::Item, HclToken::Newline) => {
                self.listener.item_end(frame.at, self.scanner.start);
                self.key()
            }
            (FrameKind::ForIn, HclToken::Sign(b':')) if is_object => {
                Ok(self.becomes(FrameKind::ForKey))
            }
            (FrameKind::ForIn, HclToken::Sign(b':')) => Ok(self.becomes(FrameKind::ForValue)),
            (FrameKind::ForKey, HclToken::Arrow) => Ok(self.becomes(FrameKind::ForValue)),
            (FrameKind::ForValue, HclToken::Ellipsis) if is_object => match self.next()? {
                HclToken::Sign(b'}') => Ok(self.close()),
                HclToken::Name if self.scanner.slice() == b"if" => {
                    Ok(self.becomes(FrameKind::ForIf))
                }
                _ => self.refuse("if or } is expected after ..."),
            },
            (FrameKind::ForValue, HclToken::Name) if self.scanner.slice() == b"if" => {
                Ok(self.becomes(FrameKind::ForIf))
            }
            (FrameKind::ForValue | FrameKind::ForIf, HclToken::Sign(sign)) if sign == closing => {
                Ok(self.close())
            }
            (FrameKind::Sequence, HclToken::Sign(b'}') | HclToken::TrimmingBrace) => {
                self.frames.pop();
                Ok(Expected::Template { is_fresh: false })
            }
            (kind, _) => self.refuse(match kind {
                FrameKind::Parenthesis => ") is expected here",
                FrameKind::Index => "] is expected here",
                FrameKind::Call => ", or ) is expected here",
                FrameKind::Tuple => ", or ] is expected here",
                FrameKind::Key => "= or : is expected after an object's key",
                FrameKind::Item => ", or } or a new line is expected here",
                FrameKind::ForIn => ": is expected here",
                FrameKind::ForKey => "=> is expected here: an object's for needs key => value",
                FrameKind::ForValue | FrameKind::ForIf => "the for expression must end here",
                _ => "} is expected here",
            }),
        }
    }

    /// Reads the bracket that may close a list before its next element.
    fn next_of(&mut self, closing: u8) -> Result<Expected, ScanError> {
        match self.next()? {
            HclToken::Sign(sign) if sign == closing => Ok(self.close()),
            token => {
                self.held = Some(token);
                Ok(Expected::Operand)
            }
        }
    }

    /// Continues after a name, which may be a function's.
    fn reference(&mut self) -> Result<Expected, ScanError> {
        let mut is_function = false;
        loop {
            match self.next()? {
                HclToken::Sign(b'(') => {
                    self.open(FrameKind::Call, self.scanner.start)?;
                    return self.next_of(b')');
                }
                HclToken::DoubleColon => {
                    self.expect(HclToken::Name, "a function's name is expected after ::")?;
                    is_function = true;
                }
                _ if is_function => return self.refuse("( is expected after a function's name"),
                token => {
                    self.held = Some(token);
                    return Ok(Expected::Operator);
                }
            }
        }
    }

    fn object(&mut self) -> Result<Expected, ScanError> {
        let (start, after) = (self.scanner.start, self.scanner.at);
        // Line ends don't count before `for`, but they do before a key.
        if self.scanner.next(false)? == HclToken::Name && self.scanner.slice() == b"for" {
            self.open(FrameKind::ForIn, start)?;
            return self.for_names();
        }
        self.scanner.at = after;
        self.open(FrameKind::Key, start)?;
        self.key()
    }

    /// Reads the next key of an object, or its end.
    fn key(&mut self) -> Result<Expected, ScanError> {
        loop {
            match self.next()? {
                HclToken::Newline => {}
                HclToken::Sign(b'}') => return Ok(self.close()),
                token => {
                    self.listener.key(self.scanner.start);
                    self.held = Some(token);
                    return Ok(self.becomes(FrameKind::Key));
                }
            }
        }
    }

    /// Reads `x in`, or `k, v in`.
    fn for_names(&mut self) -> Result<Expected, ScanError> {
        self.expect(HclToken::Name, "a variable's name is expected after for")?;
        let mut token = self.next()?;
        if token == HclToken::Sign(b',') {
            self.expect(HclToken::Name, "a variable's name is expected here")?;
            token = self.next()?;
        }
        match token == HclToken::Name && self.scanner.slice() == b"in" {
            true => Ok(Expected::Operand),
            false => self.refuse("in is expected here"),
        }
    }

    pub(super) fn template(&mut self, is_fresh: bool) -> Result<Expected, ScanError> {
        let marker = self.markers.last().cloned().flatten();
        let piece = match &marker {
            Some(marker) => {
                let marker = self.scanner.text.get(marker.clone()).unwrap_or_default();
                self.scanner.heredoc(marker, is_fresh)?
            }
            None => self.scanner.quoted()?,
        };
        if piece != Piece::End {
            let at = self.scanner.start;
            self.attribute.sequence.get_or_insert(at);
            self.open(FrameKind::Sequence, at)?;
            return match piece {
                Piece::Directive => self.directive(),
                _ => Ok(Expected::Operand),
            };
        }
        let (start, end) = (self.scanner.start, self.scanner.at);
        let frame = match self.frames.last() {
            Some(frame) if frame.kind == FrameKind::Template => *frame,
            other => {
                let at = other.map_or(start, |frame| frame.at);
                return ScanError::at(
                    at,
                    "this directive has no end: write %{ endif } or %{ endfor }",
                );
            }
        };
        self.close();
        self.markers.pop();
        let is_empty = frame.at == start;
        self.attribute.template.get_or_insert((end, is_empty));
        if let Some(marker) = marker {
            self.listener.heredoc(marker, frame.at..start, start..end);
        }
        Ok(Expected::Operator)
    }

    /// Reads the marker of a directive.
    fn directive(&mut self) -> Result<Expected, ScanError> {
        let at = self.scanner.start;
        self.expect(
            HclToken::Name,
            "if, for, else, endif or endfor is expected here",
        )?;
        let outer = self.frames.len().checked_sub(2);
        let outer = outer.and_then(|outer| self.frames.get_mut(outer));
        match (self.scanner.slice(), outer.map(|outer| &mut outer.kind)) {
            (b"if", _) => {
                self.becomes(FrameKind::If);
                self.open(FrameKind::Sequence, at)?;
                return Ok(Expected::Operand);
            }
            (b"for", _) => {
                self.becomes(FrameKind::For);
                self.open(FrameKind::Sequence, at)?;
                return self.for_names();
            }
            (b"else", Some(kind @ FrameKind::If)) => *kind = FrameKind::Else,
            (b"endif", Some(FrameKind::If | FrameKind::Else))
            | (b"endfor", Some(FrameKind::For)) => {
                // The frame of the marker itself stays open.
                let marker = self.frames.pop();
                self.frames.pop();
                self.frames.extend(marker);
            }
            (b"else" | b"endif" | b"endfor", _) => {
                return self.refuse("no directive is open that this could belong to");
            }
            _ => return self.refuse("if, for, else, endif or endfor is expected here"),
        }
        let token = self.next()?;
        self.end_expression(token)
    }
}
