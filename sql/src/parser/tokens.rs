//! From text to tokens: Flink's lexical rules, and the rewriting of constructs that `sqlparser` does
//! not know into ones that it does.
//!
//! | Flink | handed to sqlparser |
//! | --- | --- |
//! | `TUMBLE(TABLE t, ...)` | `TUMBLE($TABLE(t), ...)` |
//! | `t /*+ OPTIONS('k' = 'v') */` | `t ($OPTIONS('k' = 'v'))` |
//! | `MAP['k', v]` | `MAP('k', v)` |
//! | `ARRAY<ARRAY<INT>>` | `>>` as two tokens |
//! | `TRIM(BOTH FROM x)` | `TRIM(BOTH ' ' FROM x)` |
//! | `x BETWEEN ASYMMETRIC a AND b` | `x BETWEEN a AND b` |

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::calls;
use super::dialect::FlinkDialect;
use crate::error::{Position, SqlError};

/// The function into which a `TABLE t` argument is rewritten.
pub(crate) const TABLE_ARGUMENT: &str = "$TABLE";
/// The function into which a table hint is rewritten.
pub(crate) const OPTIONS_HINT: &str = "$OPTIONS";

/// The tokens of `text` without white space and comments, Flink's constructs rewritten.
pub(super) fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let raw = lex(text)?;
    check(text, &raw)?;
    calls::rewrite(rewrite(raw)?)
}

fn lex(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    Tokenizer::new(&FlinkDialect, text)
        .tokenize_with_location()
        .map_err(|e| SqlError::parse(lower_first(&e.message), Position::at(e.location)))
}

pub(super) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// Refuses tokens that sqlparser reads but Flink does not.
fn check(text: &str, tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let index = LineIndex::new(text);
    for token in tokens {
        let refuse = |message: &str| Err(SqlError::parse(message, Position::of(token.span)));
        match &token.token {
            Token::Neq if text[index.offset(token.span.start)..].starts_with('!') => {
                return refuse("'!=' is not an operator of Flink SQL: write '<>'");
            }
            Token::Number(text, true) => return refuse(&format!("'{text}L' is not a number of Flink SQL")),
            Token::HexStringLiteral(_) if text[index.offset(token.span.start)..].starts_with('0') => {
                return refuse("numbers are decimal in Flink SQL; binary strings are written x'0A'");
            }
            Token::Spaceship => return refuse("'<=>' is not an operator of Flink SQL: write IS NOT DISTINCT FROM"),
            Token::DoubleColon => return refuse("'::' is not an operator of Flink SQL: write CAST(... AS ...)"),
            Token::DoubleEq => return refuse("'==' is not an operator of Flink SQL: write '='"),
            Token::DoubleQuotedString(_) | Token::Char('"') => {
                return refuse("double quotes are not used in Flink SQL: identifiers go in backticks, strings in ''");
            }
            Token::Char(c) => return refuse(&format!("unexpected character '{c}'")),
            _ => {}
        }
    }
    Ok(())
}

fn rewrite(raw: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(raw.len());
    let mut map_brackets: Vec<bool> = Vec::new();
    for TokenWithSpan { token, span } in raw {
        let (behind_between, behind_trim_side) = (follows(&out, "BETWEEN"), follows_trim_side(&out));
        let mut put = |token: Token| out.push(TokenWithSpan::new(token, span));
        match token {
            Token::Whitespace(Whitespace::MultiLineComment(comment)) => {
                if let Some(hint) = comment.strip_prefix('+')
                    && follows_table_name(&out)
                {
                    table_hint(hint, span, &mut out)?;
                }
            }
            Token::Whitespace(_) | Token::EOF => {}
            Token::Word(word) if word.keyword == Keyword::ASYMMETRIC && behind_between => {}
            Token::Word(word) if word.keyword == Keyword::FROM && behind_trim_side => {
                put(Token::SingleQuotedString(" ".to_owned()));
                put(Token::Word(word));
            }
            Token::ShiftRight => {
                put(Token::Gt);
                put(Token::Gt);
            }
            Token::LBracket => {
                let of_map = out.last().is_some_and(|t| is_word(&t.token, "MAP"));
                map_brackets.push(of_map);
                out.push(TokenWithSpan::new(if of_map { Token::LParen } else { Token::LBracket }, span));
            }
            Token::RBracket => {
                let of_map = map_brackets.pop().unwrap_or(false);
                put(if of_map { Token::RParen } else { Token::RBracket });
            }
            other => put(other),
        }
    }
    Ok(wrap_table_arguments(out))
}

pub(super) fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(text))
}

fn follows(out: &[TokenWithSpan], text: &str) -> bool {
    out.last().is_some_and(|t| is_word(&t.token, text))
}

/// Behind `TRIM(BOTH`, where the characters to trim are left out: a blank.
fn follows_trim_side(out: &[TokenWithSpan]) -> bool {
    let side = ["BOTH", "LEADING", "TRAILING"].into_iter().any(|side| follows(out, side));
    side && matches!(out, [.., trim, paren, _] if is_word(&trim.token, "TRIM") && paren.token == Token::LParen)
}

fn follows_table_name(out: &[TokenWithSpan]) -> bool {
    match out.last().map(|t| &t.token) {
        Some(Token::Word(w)) => w.quote_style.is_some() || w.keyword != Keyword::SELECT,
        _ => false,
    }
}

pub(super) fn function_name(name: &str, span: Span) -> TokenWithSpan {
    let word = Word { value: name.to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
    TokenWithSpan::new(Token::Word(word), span)
}

/// Appends `($OPTIONS(...))` for an OPTIONS hint; other hints do not concern tables and are ignored,
/// as Flink ignores hints that it does not know.
fn table_hint(hint: &str, span: Span, out: &mut Vec<TokenWithSpan>) -> Result<(), SqlError> {
    let tokens = lex(hint).map_err(|e| e.or_at(span))?;
    let mut tokens: Vec<Token> =
        tokens.into_iter().map(|t| t.token).filter(|t| !matches!(t, Token::Whitespace(_) | Token::EOF)).collect();
    if !tokens.first().is_some_and(|t| is_word(t, "OPTIONS")) {
        return Ok(());
    }
    if tokens.get(1) != Some(&Token::LParen) || tokens.last() != Some(&Token::RParen) {
        return Err(SqlError::parse(
            "a table hint is written /*+ OPTIONS('key' = 'value', ...) */",
            Position::of(span),
        ));
    }
    tokens.remove(0);
    let at = |token: Token| TokenWithSpan::new(token, span);
    out.push(at(Token::LParen));
    out.push(function_name(OPTIONS_HINT, span));
    out.extend(tokens.into_iter().map(at));
    out.push(at(Token::RParen));
    Ok(())
}

/// `(TABLE a.b.c` and what may follow the name as a hint becomes `($TABLE(a.b.c ...)`.
fn wrap_table_arguments(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let begins_argument =
            out.last().is_some_and(|t| matches!(t.token, Token::LParen | Token::Comma | Token::RArrow));
        let names_table = matches!(tokens.get(at + 1).map(|t| &t.token), Some(Token::Word(_)));
        if !(begins_argument && names_table && is_word(&tokens[at].token, "TABLE")) {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let span = tokens[at].span;
        out.push(function_name(TABLE_ARGUMENT, span));
        out.push(TokenWithSpan::new(Token::LParen, span));
        at += 1;
        let end = end_of_table_argument(&tokens, at);
        out.extend_from_slice(&tokens[at..end]);
        at = end;
        if let Some(end) = end_of_partition_by(&tokens, at) {
            out.push(TokenWithSpan::new(Token::Comma, span));
            out.push(TokenWithSpan::new(Token::SingleQuotedString("PARTITION BY".to_owned()), tokens[at].span));
            at = end;
        }
        out.push(TokenWithSpan::new(Token::RParen, span));
    }
    out
}

/// The position behind `PARTITION BY ...` of a table argument. Its columns are not kept: no function
/// that is supported takes them.
fn end_of_partition_by(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let word_at = |at: usize, text: &str| tokens.get(at).is_some_and(|t| is_word(&t.token, text));
    if !(word_at(start, "PARTITION") && word_at(start + 1, "BY")) {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = start + 2;
    while let Some(token) = tokens.get(at) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => break,
            Token::RParen => depth -= 1,
            Token::Comma if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    Some(at)
}

/// The position behind the name and the hint that begin at `at`.
fn end_of_table_argument(tokens: &[TokenWithSpan], mut at: usize) -> usize {
    at += 1;
    while at + 1 < tokens.len() && tokens[at].token == Token::Period && matches!(tokens[at + 1].token, Token::Word(_)) {
        at += 2;
    }
    let hinted = tokens.get(at).is_some_and(|t| t.token == Token::LParen)
        && tokens.get(at + 1).is_some_and(|t| is_word(&t.token, OPTIONS_HINT));
    if hinted {
        let mut depth = 0;
        while at < tokens.len() {
            match tokens[at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
    }
    at
}

/// Byte offsets of lines, to cut text at token positions.
pub(super) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        LineIndex { text, starts }
    }

    /// The byte offset of `location`; the end of the text for one behind it.
    pub(super) fn offset(&self, location: Location) -> usize {
        let line = (location.line as usize).saturating_sub(1);
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        let column = (location.column as usize).saturating_sub(1);
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(i, _)| start + i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        tokenize(text).unwrap().iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn constructs_of_flink_are_rewritten() {
        assert_eq!(rewritten("TUMBLE(TABLE a.`b`, x)"), "TUMBLE ( $TABLE ( a . `b` ) , x )");
        assert_eq!(rewritten("F(DATA => TABLE t)"), "F ( DATA => $TABLE ( t ) )");
        assert_eq!(rewritten("FROM TABLE(F(x))"), "FROM TABLE ( F ( x ) )");
        assert_eq!(rewritten("MAP['a', ARRAY[1]]"), "MAP ( 'a' , ARRAY [ 1 ] )");
        assert_eq!(rewritten("FROM t /*+ OPTIONS('a'='b') */ AS x"), "FROM t ( $OPTIONS ( 'a' = 'b' ) ) AS x");
        assert_eq!(
            rewritten("F(TABLE t /*+ OPTIONS('a'='b') */, 1)"),
            "F ( $TABLE ( t ( $OPTIONS ( 'a' = 'b' ) ) ) , 1 )"
        );
        assert_eq!(rewritten("SELECT /*+ STATE_TTL('a'='1d') */ x -- no\n /* c */"), "SELECT x");
    }

    #[test]
    fn what_flink_does_not_read_is_refused_with_its_place() {
        for (text, part) in [
            ("SELECT 1\n != 2", "line 2, column 2: '!='"),
            ("SELECT \"a\"", "line 1, column 8: double quotes"),
            ("SELECT a::INT", "line 1, column 9: '::'"),
            ("SELECT 'open", "nterminated"),
        ] {
            let error = tokenize(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(tokenize("SELECT a <> b").is_ok());
    }
}
