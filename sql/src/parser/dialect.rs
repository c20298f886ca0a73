//! Flink's dialect for `sqlparser`: what it lexes and which query constructs it knows.

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, DataType, Expr, Ident, ObjectName, UnaryOperator};
use sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// Flink SQL.
///
/// More constructs are parsed than are supported, so that the planner can say by name and place what
/// it cannot do.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn dialect(&self) -> TypeId {
        // Opens the constructs that the parser gates by dialect, as UNNEST.
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn supports_string_literal_column_alias(&self, _explicit: bool) -> bool {
        false
    }

    fn supports_string_literal_table_alias(&self, _explicit: bool) -> bool {
        false
    }

    fn supports_dollar_placeholder(&self) -> bool {
        false
    }

    /// `x [NOT] BETWEEN SYMMETRIC a AND b`, which sqlparser does not know.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        let negated = usize::from(word_at(parser, 0, "NOT"));
        if !(word_at(parser, negated, "BETWEEN") && word_at(parser, negated + 1, "SYMMETRIC")) {
            return None;
        }
        (0..negated + 2).for_each(|_| {
            parser.next_token();
        });
        Some(symmetric_between(parser, expr, negated == 1))
    }

    /// Types are kept as text, for [`hurtig_graph::DataType::parse`] to read: sqlparser does not
    /// know ROW, MULTISET or TIMESTAMP_LTZ. Types that begin a literal (`DATE '...'`) are left to
    /// sqlparser.
    fn parse_data_type(&self, parser: &mut Parser) -> Option<Result<DataType, ParserError>> {
        if !begins_type(parser) {
            return None;
        }
        let start = parser.peek_token().span;
        let mut text = TypeText::default();
        Some(text.data_type(parser).map(|()| {
            let mut name = Ident::new(text.0);
            name.span = start;
            DataType::Custom(ObjectName::from(vec![name]), Vec::new())
        }))
    }
}

/// Whether token `n` from the next one is this word, unquoted.
fn word_at(parser: &Parser, n: usize, text: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token,
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(text))
}

/// Between the bounds in whichever order: either way round.
fn symmetric_between(parser: &mut Parser, expr: &Expr, negated: bool) -> Result<Expr, ParserError> {
    let precedence = FlinkDialect.prec_value(Precedence::Between);
    let low = parser.parse_subexpr(precedence)?;
    parser.expect_keyword_is(Keyword::AND)?;
    let high = parser.parse_subexpr(precedence)?;
    let between = |low: &Expr, high: &Expr| {
        let [expr, low, high] = [expr, low, high].map(|e| Box::new(e.clone()));
        Box::new(Expr::Between { expr, negated: false, low, high })
    };
    let (left, right) = (between(&low, &high), between(&high, &low));
    let either = Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Or, right }));
    Ok(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(either) } } else { either })
}

/// Whether the next tokens can only be a type in Flink's spelling, not the type of a literal.
fn begins_type(parser: &Parser) -> bool {
    let Token::Word(word) = &parser.peek_token_ref().token else { return false };
    if word.quote_style.is_some() {
        return false;
    }
    if word.keyword == Keyword::TIMESTAMP {
        let after = if parser.peek_nth_token_ref(1).token == Token::LParen { 4 } else { 1 };
        let local = word_at(parser, after, "WITH") && word_at(parser, after + 1, "LOCAL");
        return local || word_at(parser, after, "ARRAY");
    }
    if word.keyword == Keyword::DECIMAL && matches!(parser.peek_nth_token_ref(1).token, Token::SingleQuotedString(_)) {
        return false;
    }
    const NAMES: [&str; 24] = [
        "CHAR",
        "CHARACTER",
        "VARCHAR",
        "STRING",
        "BOOLEAN",
        "BINARY",
        "VARBINARY",
        "BYTES",
        "DECIMAL",
        "DEC",
        "NUMERIC",
        "TINYINT",
        "SMALLINT",
        "INT",
        "INTEGER",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "TIMESTAMP_LTZ",
        "ARRAY",
        "MAP",
        "MULTISET",
        "ROW",
        "VARIANT",
    ];
    NAMES.iter().any(|name| word.value.eq_ignore_ascii_case(name))
}

/// Reads the tokens of a type and collects their text; the meaning is checked by the reader of the
/// text.
#[derive(Default)]
pub(super) struct TypeText(pub(super) String);

impl TypeText {
    pub(super) fn data_type(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        self.named(parser)?;
        loop {
            // Postfix form: `INT NOT NULL ARRAY`. NOT NULL at the end belongs to the caller.
            let not_null = word_at(parser, 0, "NOT") && word_at(parser, 1, "NULL");
            let postfix = if not_null { 2 } else { 0 };
            if !word_at(parser, postfix, "ARRAY") && !word_at(parser, postfix, "MULTISET") {
                return Ok(());
            }
            for _ in 0..=postfix {
                self.push(parser);
            }
        }
    }

    /// A type with nullability, as an element of another.
    fn element(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        self.data_type(parser)?;
        if word_at(parser, 0, "NOT") {
            self.push(parser);
        }
        if word_at(parser, 0, "NULL") {
            self.push(parser);
        }
        Ok(())
    }

    fn named(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        let token = parser.peek_token();
        let name = match &token.token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => return parser.expected("a type", token),
        };
        self.push(parser);
        match name.as_str() {
            "ARRAY" | "MULTISET" => self.in_angles(parser, 1),
            "MAP" => self.in_angles(parser, 2),
            "ROW" => self.row(parser),
            "INTERVAL" => self.interval(parser),
            _ => {
                if name == "DOUBLE" && word_at(parser, 0, "PRECISION") {
                    self.push(parser);
                }
                if matches!(name.as_str(), "CHAR" | "CHARACTER") && word_at(parser, 0, "VARYING") {
                    parser.next_token();
                    self.0.truncate(self.0.len() - name.len());
                    self.0.push_str("VARCHAR");
                }
                if parser.peek_token_ref().token == Token::LParen {
                    self.numbers(parser)?;
                }
                self.time_zone(parser);
                Ok(())
            }
        }
    }

    fn in_angles(&mut self, parser: &mut Parser, elements: usize) -> Result<(), ParserError> {
        self.expect(parser, &Token::Lt)?;
        for i in 0..elements {
            if i > 0 {
                self.expect(parser, &Token::Comma)?;
            }
            self.element(parser)?;
        }
        self.expect(parser, &Token::Gt)
    }

    fn row(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        let close = if parser.peek_token_ref().token == Token::Lt {
            Token::Gt
        } else if parser.peek_token_ref().token == Token::LParen {
            Token::RParen
        } else {
            return parser.expected("'<' after ROW", parser.peek_token());
        };
        self.push(parser);
        loop {
            match &parser.peek_token_ref().token {
                Token::Word(_) => self.push(parser),
                _ => return parser.expected("the name of a ROW field", parser.peek_token()),
            }
            self.element(parser)?;
            if matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
                parser.next_token(); // the field's comment
            }
            if parser.peek_token_ref().token != Token::Comma {
                break;
            }
            self.push(parser);
        }
        self.expect(parser, &close)
    }

    fn interval(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        loop {
            match &parser.peek_token_ref().token {
                Token::Word(_) => self.push(parser),
                _ => return parser.expected("an interval unit", parser.peek_token()),
            }
            if parser.peek_token_ref().token == Token::LParen {
                self.numbers(parser)?;
            }
            if !word_at(parser, 0, "TO") {
                return Ok(());
            }
            self.push(parser);
        }
    }

    fn numbers(&mut self, parser: &mut Parser) -> Result<(), ParserError> {
        self.expect(parser, &Token::LParen)?;
        loop {
            match &parser.peek_token_ref().token {
                Token::Number(..) => self.push(parser),
                _ => return parser.expected("a number", parser.peek_token()),
            }
            if parser.peek_token_ref().token != Token::Comma {
                return self.expect(parser, &Token::RParen);
            }
            self.push(parser);
        }
    }

    fn time_zone(&mut self, parser: &mut Parser) {
        for words in [&["WITH", "LOCAL", "TIME", "ZONE"][..], &["WITH", "TIME", "ZONE"], &["WITHOUT", "TIME", "ZONE"]] {
            if words.iter().enumerate().all(|(i, word)| word_at(parser, i, word)) {
                words.iter().for_each(|_| self.push(parser));
                return;
            }
        }
    }

    fn expect(&mut self, parser: &mut Parser, token: &Token) -> Result<(), ParserError> {
        if parser.peek_token_ref().token == *token {
            self.push(parser);
            return Ok(());
        }
        parser.expected(&format!("'{token}' in a type"), parser.peek_token())
    }

    fn push(&mut self, parser: &mut Parser) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(&parser.next_token().token.to_string());
    }
}
