//! Reads the text form of types: a small recursive-descent parser over words and punctuation.

use super::{DataType, LogicalType, MAX_LENGTH};
use crate::error::GraphError;

pub(super) fn parse(text: &str) -> Result<DataType, GraphError> {
    let fail = |reason: String| GraphError::Type { text: text.to_owned(), reason };
    let tokens = tokenize(text).map_err(fail)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let ty = parser.data_type().map_err(fail)?;
    match parser.peek() {
        None => Ok(ty),
        Some(token) => Err(fail(format!("unexpected '{}' after the type", token.text()))),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Number(u32),
    Symbol(char),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Token::Word(w) | Token::Quoted(w) => w.clone(),
            Token::Number(n) => n.to_string(),
            Token::Symbol(c) => c.to_string(),
        }
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
        } else if c.is_ascii_digit() {
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            tokens.push(Token::Number(digits.parse().map_err(|_| format!("the number {digits} is too large"))?));
        } else if c.is_alphanumeric() || c == '_' || c == '$' {
            let mut word = String::new();
            while let Some(w) = chars.next_if(|w| w.is_alphanumeric() || *w == '_' || *w == '$') {
                word.push(w);
            }
            tokens.push(Token::Word(word));
        } else if c == '`' || c == '\'' {
            tokens.push(Token::Quoted(quoted(&mut chars, c)?));
        } else if "(),<>".contains(c) {
            chars.next();
            tokens.push(Token::Symbol(c));
        } else {
            return Err(format!("unexpected character '{c}'"));
        }
    }
    Ok(tokens)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> Result<String, String> {
    chars.next();
    let mut name = String::new();
    loop {
        match chars.next() {
            Some(c) if c == quote => {
                if chars.next_if_eq(&quote).is_none() {
                    return Ok(name);
                }
                name.push(quote);
            }
            Some(c) => name.push(c),
            None => return Err("a quoted name does not end".to_owned()),
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn word(&mut self, expected: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(expected));
        self.at += usize::from(found);
        found
    }

    fn symbol(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(expected));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        if self.symbol(expected) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), |t| format!("'{}'", t.text()));
        Err(format!("expected '{expected}', found {found}"))
    }

    fn number(&mut self) -> Result<u32, String> {
        match self.peek() {
            Some(Token::Number(n)) => {
                let n = *n;
                self.at += 1;
                Ok(n)
            }
            _ => Err("expected a number".to_owned()),
        }
    }

    fn data_type(&mut self) -> Result<DataType, String> {
        let mut logical = self.logical()?;
        loop {
            let nullable = self.nullability()?;
            let data_type = DataType { logical, nullable };
            // Postfix form: `INT ARRAY`, `INT MULTISET`.
            logical = if self.word("ARRAY") {
                LogicalType::Array(Box::new(data_type))
            } else if self.word("MULTISET") {
                LogicalType::Multiset(Box::new(data_type))
            } else {
                return Ok(data_type);
            };
        }
    }

    fn nullability(&mut self) -> Result<bool, String> {
        if self.word("NOT") {
            if self.word("NULL") {
                return Ok(false);
            }
            return Err("expected NULL after NOT".to_owned());
        }
        self.word("NULL");
        Ok(true)
    }

    fn logical(&mut self) -> Result<LogicalType, String> {
        let Some(Token::Word(word)) = self.peek() else {
            return Err("a type name is missing".to_owned());
        };
        let name = word.to_ascii_uppercase();
        self.at += 1;
        Ok(match name.as_str() {
            "NULL" => LogicalType::Null,
            "BOOLEAN" => LogicalType::Boolean,
            "CHAR" | "CHARACTER" => LogicalType::Char(self.length(1)?),
            "VARCHAR" => LogicalType::Varchar(self.length(1)?),
            "STRING" => LogicalType::STRING,
            "BINARY" => LogicalType::Binary(self.length(1)?),
            "VARBINARY" => LogicalType::Varbinary(self.length(1)?),
            "BYTES" => LogicalType::BYTES,
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "TINYINT" => LogicalType::TinyInt,
            "SMALLINT" => LogicalType::SmallInt,
            "INT" | "INTEGER" => LogicalType::Int,
            "BIGINT" => LogicalType::BigInt,
            "FLOAT" => LogicalType::Float,
            "DOUBLE" => {
                self.word("PRECISION");
                LogicalType::Double
            }
            "DATE" => LogicalType::Date,
            "TIME" => {
                let precision = self.precision(0)?;
                self.without_time_zone()?;
                LogicalType::Time(precision)
            }
            "TIMESTAMP" => self.timestamp()?,
            "TIMESTAMP_LTZ" => LogicalType::TimestampLtz(self.precision(6)?),
            "INTERVAL" => self.interval()?,
            "ARRAY" => LogicalType::Array(Box::new(self.one_argument()?)),
            "MULTISET" => LogicalType::Multiset(Box::new(self.one_argument()?)),
            "MAP" => {
                self.expect('<')?;
                let key = self.data_type()?;
                self.expect(',')?;
                let value = self.data_type()?;
                self.expect('>')?;
                LogicalType::Map(Box::new(key), Box::new(value))
            }
            "ROW" => self.row()?,
            _ => return Err(format!("there is no type '{name}'")),
        })
    }

    fn one_argument(&mut self) -> Result<DataType, String> {
        self.expect('<')?;
        let item = self.data_type()?;
        self.expect('>')?;
        Ok(item)
    }

    fn length(&mut self, default: u32) -> Result<u32, String> {
        if !self.symbol('(') {
            return Ok(default);
        }
        let length = self.number()?;
        self.expect(')')?;
        // The literal '' is a CHAR(0).
        if length <= MAX_LENGTH { Ok(length) } else { Err(format!("a length must be at most {MAX_LENGTH}")) }
    }

    fn precision(&mut self, default: u8) -> Result<u8, String> {
        if !self.symbol('(') {
            return Ok(default);
        }
        let precision = self.number()?;
        self.expect(')')?;
        if precision <= 9 { Ok(precision as u8) } else { Err("a time precision must be between 0 and 9".to_owned()) }
    }

    fn decimal(&mut self) -> Result<LogicalType, String> {
        let (mut precision, mut scale) = (10, 0);
        if self.symbol('(') {
            precision = self.number()?;
            if self.symbol(',') {
                scale = self.number()?;
            }
            self.expect(')')?;
        }
        if !(1..=38).contains(&precision) {
            return Err("the precision of a DECIMAL must be between 1 and 38".to_owned());
        }
        if scale > precision {
            return Err("the scale of a DECIMAL must be between 0 and its precision".to_owned());
        }
        Ok(LogicalType::Decimal(precision as u8, scale as u8))
    }

    fn timestamp(&mut self) -> Result<LogicalType, String> {
        let precision = self.precision(6)?;
        if self.word("WITH") {
            if self.word("LOCAL") && self.word("TIME") && self.word("ZONE") {
                return Ok(LogicalType::TimestampLtz(precision));
            }
            return Err("only TIMESTAMP WITH LOCAL TIME ZONE is supported, not WITH TIME ZONE".to_owned());
        }
        self.without_time_zone()?;
        Ok(LogicalType::Timestamp(precision))
    }

    fn without_time_zone(&mut self) -> Result<(), String> {
        if self.word("WITHOUT") && !(self.word("TIME") && self.word("ZONE")) {
            return Err("expected TIME ZONE after WITHOUT".to_owned());
        }
        Ok(())
    }

    fn interval(&mut self) -> Result<LogicalType, String> {
        let mut units = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Word(w)) if is_interval_unit(w) => {
                    units.push(w.to_ascii_uppercase());
                    self.at += 1;
                    if self.symbol('(') {
                        self.number()?;
                        self.expect(')')?;
                    }
                }
                _ => return Err("expected an interval unit from YEAR to SECOND".to_owned()),
            }
            if !self.word("TO") {
                break;
            }
        }
        let months = units.iter().all(|u| u == "YEAR" || u == "MONTH");
        Ok(if months { LogicalType::IntervalYearMonth } else { LogicalType::IntervalDayTime })
    }

    fn row(&mut self) -> Result<LogicalType, String> {
        let close = if self.symbol('<') {
            '>'
        } else {
            self.expect('(')?;
            ')'
        };
        let mut fields = Vec::new();
        if self.symbol(close) {
            return Ok(LogicalType::Row(fields));
        }
        loop {
            let name = match self.peek() {
                Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
                _ => return Err("expected the name of a ROW field".to_owned()),
            };
            self.at += 1;
            let ty = self.data_type()?;
            if let Some(Token::Quoted(_)) = self.peek() {
                self.at += 1; // the field's comment
            }
            fields.push((name, ty));
            if !self.symbol(',') {
                break;
            }
        }
        self.expect(close)?;
        Ok(LogicalType::Row(fields))
    }
}

fn is_interval_unit(word: &str) -> bool {
    ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"].iter().any(|unit| word.eq_ignore_ascii_case(unit))
}
