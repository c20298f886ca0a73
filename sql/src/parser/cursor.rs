//! A cursor over the tokens of one statement, with the helpers of a recursive-descent parser.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Visit, visit_expressions};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use hurtig_graph::{DataType, LogicalType};

use super::dialect::{FlinkDialect, TypeText};
use super::tokens::{LineIndex, lower_first, tokenize};
use crate::error::{Position, SqlError};

pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, SqlError> {
        Ok(Cursor { text, tokens: tokenize(text)?, at: 0 })
    }

    pub(super) fn peek(&self) -> &Token {
        self.peek_nth(0)
    }

    pub(super) fn peek_nth(&self, n: usize) -> &Token {
        self.tokens.get(self.at + n).map_or(&Token::EOF, |t| &t.token)
    }

    /// The place of the next token; behind the last one at the end.
    pub(super) fn span(&self) -> Span {
        match self.tokens.get(self.at) {
            Some(token) => token.span,
            None => self.tokens.last().map_or(Span::empty(), |t| Span::new(t.span.end, t.span.end)),
        }
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        self.is_keyword_at(0, keyword)
    }

    pub(super) fn is_keyword_at(&self, n: usize, keyword: &str) -> bool {
        matches!(self.peek_nth(n), Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword))
    }

    /// Whether the next tokens are these words.
    pub(super) fn are_keywords(&self, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(n, keyword)| self.is_keyword_at(n, keyword))
    }

    /// Takes `keywords` (separated by blanks) if they are next.
    pub(super) fn take(&mut self, keywords: &str) -> bool {
        let words: Vec<&str> = keywords.split(' ').collect();
        let found = self.are_keywords(&words);
        if found {
            self.at += words.len();
        }
        found
    }

    pub(super) fn expect(&mut self, keywords: &str) -> Result<(), SqlError> {
        if self.take(keywords) { Ok(()) } else { Err(self.expected(keywords)) }
    }

    pub(super) fn take_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == token && !self.at_end();
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.take_token(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    pub(super) fn expect_end(&mut self) -> Result<(), SqlError> {
        self.take_token(&Token::SemiColon);
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// The error that something else is next.
    pub(super) fn expected(&self, what: &str) -> SqlError {
        let found = match self.peek() {
            Token::EOF => "the end of the statement".to_owned(),
            token => format!("'{token}'"),
        };
        SqlError::parse(format!("expected {what}, found {found}"), Position::of(self.span()))
    }

    /// A name in one part.
    pub(super) fn identifier(&mut self, what: &str) -> Result<String, SqlError> {
        match self.peek() {
            Token::Word(word) => {
                if word.quote_style.is_none() && is_reserved(&word.value) {
                    let message =
                        format!("'{}' is a reserved word: write it in backticks to use it as a name", word.value);
                    return Err(SqlError::parse(message, Position::of(self.span())));
                }
                let name = word.value.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A name of up to three parts.
    pub(super) fn object_name(&mut self, what: &str) -> Result<Vec<String>, SqlError> {
        let mut parts = vec![self.identifier(what)?];
        while self.take_token(&Token::Period) {
            parts.push(self.identifier(what)?);
        }
        if parts.len() > 3 {
            return Err(self.expected("a name of at most three parts (catalog.database.object)"));
        }
        Ok(parts)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, SqlError> {
        match self.peek() {
            Token::SingleQuotedString(text)
            | Token::UnicodeStringLiteral(text)
            | Token::NationalStringLiteral(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `item` as often as commas join it.
    pub(super) fn comma_separated<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut items = vec![item(self)?];
        while self.take_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item, ...)`.
    pub(super) fn parenthesized<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        self.expect_token(&Token::LParen)?;
        let items = self.comma_separated(item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    /// A type with nullability.
    pub(super) fn data_type(&mut self) -> Result<DataType, SqlError> {
        let span = self.span();
        let mut text = TypeText::default();
        self.with_parser(|parser| text.data_type(parser))?;
        let data_type = DataType::parse(&text.0).map_err(|e| SqlError::validation_at(e.to_string(), span))?;
        use LogicalType::{Binary, Char, Varbinary, Varchar};
        if matches!(data_type.logical, Char(0) | Varchar(0) | Binary(0) | Varbinary(0)) {
            return Err(SqlError::validation_at("the length of a column's type must be at least 1", span));
        }
        if self.take("NOT NULL") {
            return Ok(data_type.with_nullable(false));
        }
        self.take("NULL");
        Ok(data_type)
    }

    pub(super) fn expression(&mut self) -> Result<Expr, SqlError> {
        let expr = self.with_parser(|parser| parser.parse_expr())?;
        reject_reserved(&expr)?;
        Ok(expr)
    }

    pub(super) fn query(&mut self) -> Result<Query, SqlError> {
        let query = self.with_parser(|parser| parser.parse_query())?;
        reject_reserved(query.as_ref())?;
        Ok(*query)
    }

    /// Lets sqlparser read from here, and goes on behind what it has read.
    fn with_parser<T>(&mut self, read: impl FnOnce(&mut Parser) -> Result<T, ParserError>) -> Result<T, SqlError> {
        let rest = self.tokens.get(self.at..).unwrap_or(&[]).to_vec();
        let mut parser = Parser::new(&FlinkDialect).with_recursion_limit(100).with_tokens_with_locations(rest);
        let result = read(&mut parser).map_err(|e| self.parser_error(&e))?;
        self.at += parser.index();
        Ok(result)
    }

    fn parser_error(&self, error: &ParserError) -> SqlError {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => {
                return SqlError::parse("the statement is nested too deeply", Position::of(self.span()));
            }
        };
        let (message, position) = split_position(message);
        let end = self.tokens.last().map(|t| t.span.end);
        let position = position.or_else(|| end.and_then(Position::at));
        SqlError::parse(lower_first(message).replace("found: EOF", "found: the end of the statement"), position)
    }

    /// The text from `start`, a location of a token, to the next token.
    pub(super) fn text_from(&self, start: Location) -> &'a str {
        let index = LineIndex::new(self.text);
        let end = match self.at.checked_sub(1).and_then(|last| self.tokens.get(last)) {
            Some(last) => index.offset(last.span.end),
            None => self.text.len(),
        };
        self.text[index.offset(start)..end].trim()
    }
}

/// Cuts " at Line: 1, Column: 8" off a parser's message.
fn split_position(message: &str) -> (&str, Option<Position>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let parsed = place.split_once(", Column: ").and_then(|(line, column)| {
        let position = Position { line: line.parse().ok()?, column: column.trim().parse().ok()? };
        (position.line > 0).then_some(position)
    });
    (text, parsed)
}

/// Refuses words of the grammar where a column is expected: sqlparser reads some as names.
fn reject_reserved(tree: &impl Visit) -> Result<(), SqlError> {
    const WORDS: [&str; 24] = [
        "AND", "AS", "BY", "CREATE", "ELSE", "END", "FROM", "GROUP", "HAVING", "JOIN", "LANGUAGE", "METHOD", "ON",
        "ONE", "OR", "RESULT", "SELECT", "START", "TABLE", "THEN", "UNION", "VALUE", "WHEN", "WHERE",
    ];
    let found = visit_expressions(tree, |e| match e {
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            match WORDS.iter().any(|word| ident.value.eq_ignore_ascii_case(word)) {
                true => ControlFlow::Break(reserved(&ident.value, ident.span)),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The error that a reserved word stands where a name should.
pub(crate) fn reserved(word: &str, span: Span) -> SqlError {
    let message = format!("'{word}' is a reserved word: write it in backticks to use it as a name");
    SqlError::parse(message, Position::of(span))
}

/// Flink's reserved words that are likely as names of columns and tables. The whole list is longer;
/// a word that is missing here is read as a name, which is harmless.
pub(crate) fn is_reserved(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "ALL",
        "AND",
        "ANY",
        "ARRAY",
        "AS",
        "BETWEEN",
        "BIGINT",
        "BOOLEAN",
        "BY",
        "BYTES",
        "CASE",
        "CAST",
        "CATALOG",
        "CHAR",
        "COLUMN",
        "CONSTRAINT",
        "COUNT",
        "CREATE",
        "CROSS",
        "CUBE",
        "CURRENT",
        "DATE",
        "DAY",
        "DECIMAL",
        "DELETE",
        "DESCRIBE",
        "DISTINCT",
        "DOUBLE",
        "DROP",
        "ELSE",
        "END",
        "EXISTS",
        "EXPLAIN",
        "FALSE",
        "FLOAT",
        "FOR",
        "FROM",
        "FULL",
        "FUNCTION",
        "GROUP",
        "GROUPING",
        "HAVING",
        "HOUR",
        "IN",
        "INNER",
        "INSERT",
        "INT",
        "INTEGER",
        "INTERSECT",
        "INTERVAL",
        "INTO",
        "IS",
        "JOIN",
        "LANGUAGE",
        "LEFT",
        "LIKE",
        "LIMIT",
        "METHOD",
        "MINUTE",
        "MODEL",
        "MONTH",
        "NOT",
        "NULL",
        "OF",
        "ON",
        "ONE",
        "OR",
        "ORDER",
        "OUTER",
        "OVER",
        "PARTITION",
        "POSITION",
        "PRIMARY",
        "RANGE",
        "RESULT",
        "RIGHT",
        "ROLLUP",
        "ROW",
        "ROWS",
        "SECOND",
        "SELECT",
        "SET",
        "SMALLINT",
        "START",
        "STRING",
        "TABLE",
        "THEN",
        "TIME",
        "TIMESTAMP",
        "TINYINT",
        "TO",
        "TRUE",
        "UNION",
        "UNIQUE",
        "UPDATE",
        "USER",
        "USING",
        "VALUE",
        "VALUES",
        "VARCHAR",
        "WATERMARK",
        "WHEN",
        "WHERE",
        "WINDOW",
        "WITH",
        "YEAR",
    ];
    WORDS.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}
