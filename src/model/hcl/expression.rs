//! The recogniser's expressions and templates.

use super::recogniser::{Kind, Listener, Recogniser, State};
use super::scanner::{Fault, Piece, Token};

impl<L: Listener> Recogniser<'_, '_, L> {
    pub(super) fn operand(&mut self) -> Result<State, Fault> {
        let token = self.held_or_next()?;
        let is_template = matches!(token, Token::Quote | Token::Heredoc);
        self.attribute.is_template.get_or_insert(is_template);
        self.is_splat = false;
        match token {
            Token::Sign(b'-' | b'!') => Ok(State::Operand),
            Token::Number { .. } => Ok(State::Operator),
            Token::Name => self.reference(),
            Token::Sign(b'(') => {
                self.open(Kind::Parenthesis, self.scanner.start)?;
                Ok(State::Operand)
            }
            Token::Sign(b'[') => {
                self.open(Kind::Tuple, self.scanner.start)?;
                let state = self.next_of(b']')?;
                match self.held {
                    Some(Token::Name) if self.scanner.slice() == b"for" => {
                        self.held = None;
                        self.becomes(Kind::ForIn);
                        self.for_names()
                    }
                    _ => Ok(state),
                }
            }
            Token::Sign(b'{') => self.object(),
            Token::Quote => {
                self.open(Kind::Template, self.scanner.at)?;
                self.markers.push(None);
                Ok(State::Template { is_fresh: false })
            }
            Token::Heredoc => {
                let line = self.scanner.slice();
                let dash = usize::from(line.starts_with(b"<<-"));
                let end = if line.ends_with(b"\r\n") { 2 } else { 1 };
                let marker = self.scanner.start + 2 + dash..self.scanner.at - end;
                self.markers.push(Some(marker));
                self.open(Kind::Template, self.scanner.at)?;
                Ok(State::Template { is_fresh: true })
            }
            _ => self.refuse("an expression is expected here"),
        }
    }

    /// Reads what may follow an operand.
    pub(super) fn operator(&mut self) -> Result<State, Fault> {
        match self.held_or_next()? {
            Token::Sign(b'.') => match self.next()? {
                Token::Name | Token::Number { is_decimal: false } => Ok(State::Operator),
                Token::Number { .. } => self.refuse("two indexes in a row are written [0][1]"),
                Token::Sign(b'*') if self.is_splat => self.refuse("a second splat is written [*]"),
                Token::Sign(b'*') => {
                    self.is_splat = true;
                    Ok(State::Operator)
                }
                _ => self.refuse("an attribute's name is expected after the dot"),
            },
            Token::Sign(b'[') => {
                let (start, after) = (self.scanner.start, self.scanner.at);
                if self.next()? == Token::Sign(b'*') {
                    self.is_splat = false;
                    self.expect(Token::Sign(b']'), "] is expected after [*")?;
                    return Ok(State::Operator);
                }
                self.scanner.at = after;
                self.open(Kind::Index, start)?;
                Ok(State::Operand)
            }
            Token::Sign(b'?') => {
                self.open(Kind::Then, self.scanner.start)?;
                Ok(State::Operand)
            }
            Token::Operator | Token::Sign(b'*' | b'/' | b'%' | b'+' | b'-' | b'<' | b'>') => {
                Ok(State::Operand)
            }
            token => self.end_expression(token),
        }
    }

    /// Reads the token that follows an expression, which what is open decides on.
    fn end_expression(&mut self, token: Token) -> Result<State, Fault> {
        let Some(frame) = self.frames.last() else {
            return self.end_attribute(token);
        };
        let is_object = self.scanner.text.get(frame.at) == Some(&b'{');
        let closing = if is_object { b'}' } else { b']' };
        match (frame.kind, token) {
            (Kind::Body | Kind::Line, token) => self.end_attribute(token),
            (Kind::Then, Token::Sign(b':')) => {
                self.close();
                Ok(State::Operand)
            }
            (Kind::Then, _) => self.refuse("a conditional needs : and its second value here"),
            (Kind::Parenthesis | Kind::Call, Token::Sign(b')'))
            | (Kind::Index | Kind::Tuple, Token::Sign(b']')) => Ok(self.close()),
            (Kind::Call, Token::Sign(b',')) => self.next_of(b')'),
            (Kind::Call, Token::Ellipsis) => {
                self.expect(Token::Sign(b')'), ") is expected after ...")?;
                Ok(self.close())
            }
            (Kind::Tuple, Token::Sign(b',')) => self.next_of(b']'),
            (Kind::Key, Token::Sign(b'=' | b':')) => {
                self.listener.key_end(self.scanner.start);
                Ok(self.becomes(Kind::Item))
            }
            (Kind::Item, Token::Sign(b'}')) => {
                self.listener.item_end(frame.at, self.scanner.start);
                Ok(self.close())
            }
            (Kind::Item, Token::Sign(b',')) => {
                self.listener.item_end(frame.at, self.scanner.at);
                self.key()
            }
            (Kind::Item, Token::Newline) => {
                self.listener.item_end(frame.at, self.scanner.start);
                self.key()
            }
            (Kind::ForIn, Token::Sign(b':')) if is_object => Ok(self.becomes(Kind::ForKey)),
            (Kind::ForIn, Token::Sign(b':')) => Ok(self.becomes(Kind::ForValue)),
            (Kind::ForKey, Token::Arrow) => Ok(self.becomes(Kind::ForValue)),
            (Kind::ForValue, Token::Ellipsis) if is_object => match self.next()? {
                Token::Sign(b'}') => Ok(self.close()),
                Token::Name if self.scanner.slice() == b"if" => Ok(self.becomes(Kind::ForIf)),
                _ => self.refuse("if or } is expected after ..."),
            },
            (Kind::ForValue, Token::Name) if self.scanner.slice() == b"if" => {
                Ok(self.becomes(Kind::ForIf))
            }
            (Kind::ForValue | Kind::ForIf, Token::Sign(sign)) if sign == closing => {
                Ok(self.close())
            }
            (Kind::Sequence, Token::Sign(b'}') | Token::TrimmingBrace) => {
                self.frames.pop();
                Ok(State::Template { is_fresh: false })
            }
            (kind, _) => self.refuse(match kind {
                Kind::Parenthesis => ") is expected here",
                Kind::Index => "] is expected here",
                Kind::Call => ", or ) is expected here",
                Kind::Tuple => ", or ] is expected here",
                Kind::Key => "= or : is expected after an object's key",
                Kind::Item => ", or } or a new line is expected here",
                Kind::ForIn => ": is expected here",
                Kind::ForKey => "=> is expected here: an object's for needs key => value",
                Kind::ForValue | Kind::ForIf => "the for expression must end here",
                _ => "} is expected here",
            }),
        }
    }

    /// Reads the bracket that may close a list before its next element.
    fn next_of(&mut self, closing: u8) -> Result<State, Fault> {
        match self.next()? {
            Token::Sign(sign) if sign == closing => Ok(self.close()),
            token => {
                self.held = Some(token);
                Ok(State::Operand)
            }
        }
    }

    /// Reads what follows a name: it may be a function's.
    fn reference(&mut self) -> Result<State, Fault> {
        let mut is_function = false;
        loop {
            match self.next()? {
                Token::Sign(b'(') => {
                    self.open(Kind::Call, self.scanner.start)?;
                    return self.next_of(b')');
                }
                Token::DoubleColon => {
                    self.expect(Token::Name, "a function's name is expected after ::")?;
                    is_function = true;
                }
                _ if is_function => return self.refuse("( is expected after a function's name"),
                token => {
                    self.held = Some(token);
                    return Ok(State::Operator);
                }
            }
        }
    }

    fn object(&mut self) -> Result<State, Fault> {
        let (start, after) = (self.scanner.start, self.scanner.at);
        // Before `for` the ends of lines don't count, before a key they do.
        if self.scanner.next(false)? == Token::Name && self.scanner.slice() == b"for" {
            self.open(Kind::ForIn, start)?;
            return self.for_names();
        }
        self.scanner.at = after;
        self.open(Kind::Key, start)?;
        self.key()
    }

    /// Reads the next key of an object, or its end.
    fn key(&mut self) -> Result<State, Fault> {
        loop {
            match self.next()? {
                Token::Newline => {}
                Token::Sign(b'}') => return Ok(self.close()),
                token => {
                    self.listener.key(self.scanner.start);
                    self.held = Some(token);
                    return Ok(self.becomes(Kind::Key));
                }
            }
        }
    }

    /// Reads `x in`, or `k, v in`.
    fn for_names(&mut self) -> Result<State, Fault> {
        self.expect(Token::Name, "a variable's name is expected after for")?;
        let mut token = self.next()?;
        if token == Token::Sign(b',') {
            self.expect(Token::Name, "a variable's name is expected here")?;
            token = self.next()?;
        }
        match token == Token::Name && self.scanner.slice() == b"in" {
            true => Ok(State::Operand),
            false => self.refuse("in is expected here"),
        }
    }

    pub(super) fn template(&mut self, is_fresh: bool) -> Result<State, Fault> {
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
            self.open(Kind::Sequence, at)?;
            return match piece {
                Piece::Directive => self.directive(),
                _ => Ok(State::Operand),
            };
        }
        let (start, end) = (self.scanner.start, self.scanner.at);
        let frame = match self.frames.last() {
            Some(frame) if frame.kind == Kind::Template => *frame,
            other => {
                let at = other.map_or(start, |frame| frame.at);
                return Fault::at(
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
        Ok(State::Operator)
    }

    /// Reads the marker of a directive.
    fn directive(&mut self) -> Result<State, Fault> {
        let at = self.scanner.start;
        self.expect(
            Token::Name,
            "if, for, else, endif or endfor is expected here",
        )?;
        let outer = self.frames.len().checked_sub(2);
        let outer = outer.and_then(|outer| self.frames.get_mut(outer));
        match (self.scanner.slice(), outer.map(|outer| &mut outer.kind)) {
            (b"if", _) => {
                self.becomes(Kind::If);
                self.open(Kind::Sequence, at)?;
                return Ok(State::Operand);
            }
            (b"for", _) => {
                self.becomes(Kind::For);
                self.open(Kind::Sequence, at)?;
                return self.for_names();
            }
            (b"else", Some(kind @ Kind::If)) => *kind = Kind::Else,
            (b"endif", Some(Kind::If | Kind::Else)) | (b"endfor", Some(Kind::For)) => {
                // The marker itself stays open.
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
