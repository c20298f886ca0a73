//! Calls with a syntax of their own, rewritten into plain ones before `sqlparser` sees them.
//!
//! | Flink | handed to sqlparser |
//! | --- | --- |
//! | `JSON_VALUE(j, p RETURNING INT DEFAULT 0 ON EMPTY)` | `JSON_VALUE(j, p, '$RETURNING', 'INT', '$DEFAULT ON EMPTY', 0)` |
//! | `JSON_OBJECT(KEY k VALUE v, 'a': b NULL ON NULL)` | `JSON_OBJECT('NULL', k, v, 'a', b)` |
//! | `JSON_ARRAY(a, b)` | `JSON_ARRAY('ABSENT', a, b)` |
//! | `POSITION(a IN b FROM n)` | `LOCATE(a, b, n)` |
//! | `TRIM(BOTH FROM s)` | `TRIM(BOTH ' ' FROM s)` |
//! | `x BETWEEN SYMMETRIC a AND b` | `x BETWEEN $SYMMETRIC(a) AND b` |
//! | `(a, b) OVERLAPS (c, d)` | `$OVERLAPS((a, b), (c, d))` |
//! | `(a - b) DAY` | `$MINUS(a, b, 'DAY')` |

use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::tokens::{function_name, is_word};
use crate::error::{Position, SqlError};

/// The function into which the first bound of BETWEEN SYMMETRIC is rewritten.
pub(crate) const SYMMETRIC: &str = "$SYMMETRIC";
/// The function into which OVERLAPS is rewritten.
pub(crate) const OVERLAPS: &str = "$OVERLAPS";
/// The function into which the difference of two times with a unit is rewritten.
pub(crate) const MINUS: &str = "$MINUS";

type Tokens = Vec<TokenWithSpan>;

/// Rewrites all such calls, inner ones first.
pub(super) fn rewrite(mut tokens: Tokens) -> Result<Tokens, SqlError> {
    let mut at = tokens.len();
    while at > 0 {
        at -= 1;
        let Token::Word(word) = &tokens[at].token else {
            if tokens[at].token == Token::LParen {
                difference(&mut tokens, at);
            }
            continue;
        };
        if word.quote_style.is_some() {
            continue;
        }
        let name = word.value.to_ascii_uppercase();
        match name.as_str() {
            "BETWEEN" => between(&mut tokens, at),
            "OVERLAPS" => overlaps(&mut tokens, at),
            _ => {}
        }
        let Some(close) = call_end(&tokens, at) else { continue };
        match name.as_str() {
            "JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" => json_path(&mut tokens, at, close)?,
            "JSON_OBJECT" | "JSON_OBJECTAGG" => json_object(&mut tokens, at, close, name == "JSON_OBJECTAGG")?,
            "JSON_ARRAY" => json_nulls(&mut tokens, at, close, "ABSENT", false),
            "JSON_ARRAYAGG" => json_nulls(&mut tokens, at, close, "ABSENT", true),
            "POSITION" => position(&mut tokens, at, close),
            "TRIM" => trim(&mut tokens, at),
            _ => {}
        }
    }
    Ok(tokens)
}

fn literal(text: impl Into<String>, span: Span) -> TokenWithSpan {
    TokenWithSpan::new(Token::SingleQuotedString(text.into()), span)
}

fn comma(span: Span) -> TokenWithSpan {
    TokenWithSpan::new(Token::Comma, span)
}

/// The position of the parenthesis that closes the call of the word at `at`.
fn call_end(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    if tokens.get(at + 1)?.token != Token::LParen {
        return None;
    }
    closing(tokens, at + 1)
}

fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (position, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(position);
                }
            }
            _ => {}
        }
    }
    None
}

/// Positions between `open` and `close` that stand in no inner parentheses.
fn top_level(tokens: &[TokenWithSpan], open: usize, close: usize) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut positions = Vec::new();
    for (position, token) in tokens.iter().enumerate().take(close).skip(open + 1) {
        let closes = matches!(token.token, Token::RParen | Token::RBracket);
        if closes {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 && !closes {
            positions.push(position);
        }
        if matches!(token.token, Token::LParen | Token::LBracket) {
            depth += 1;
        }
    }
    positions
}

fn words_at(tokens: &[TokenWithSpan], at: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(i, word)| tokens.get(at + i).is_some_and(|t| is_word(&t.token, word)))
}

/// Whether an expression can end with this token, so that a clause may follow it.
fn ends_expression(token: &Token) -> bool {
    match token {
        Token::SingleQuotedString(_) | Token::Number(..) | Token::RParen | Token::RBracket => true,
        Token::Word(_) => ["AND", "OR", "NOT", "IN", "LIKE", "IS", "CASE", "WHEN", "THEN", "ELSE", "BETWEEN"]
            .iter()
            .all(|word| !is_word(token, word)),
        _ => false,
    }
}

const CLAUSES: [&str; 10] =
    ["RETURNING", "WITH", "WITHOUT", "NULL", "ERROR", "TRUE", "FALSE", "UNKNOWN", "EMPTY", "DEFAULT"];

/// The clauses behind the path become literals.
fn json_path(tokens: &mut Tokens, at: usize, close: usize) -> Result<(), SqlError> {
    let top = top_level(tokens, at + 1, close);
    let Some(first_comma) = top.iter().copied().find(|&p| tokens[p].token == Token::Comma) else { return Ok(()) };
    let begins =
        |p: usize| CLAUSES.iter().any(|word| is_word(&tokens[p].token, word)) && ends_expression(&tokens[p - 1].token);
    let Some(start) = top.iter().copied().find(|&p| p > first_comma + 1 && begins(p)) else { return Ok(()) };
    let mut out = Vec::new();
    let mut position = start;
    while position < close {
        position = clause(tokens, position, close, &mut out)?;
    }
    tokens.splice(start..close, out);
    Ok(())
}

/// Reads one clause at `at`, appends what it becomes, gives the position behind it.
fn clause(tokens: &[TokenWithSpan], at: usize, close: usize, out: &mut Tokens) -> Result<usize, SqlError> {
    let span = tokens[at].span;
    let word = |text: &str| is_word(&tokens[at].token, text);
    let bad = || SqlError::parse("this is no clause of a JSON function", Position::of(span));
    let behind = |from: usize, text: &str| -> Option<usize> {
        top_level(tokens, from, close).into_iter().find(|&p| is_word(&tokens[p].token, text))
    };
    let handling = |on: usize| -> Result<(&'static str, usize), SqlError> {
        if words_at(tokens, on, &["ON", "EMPTY"]) {
            return Ok(("ON EMPTY", on + 2));
        }
        if words_at(tokens, on, &["ON", "ERROR"]) {
            return Ok(("ON ERROR", on + 2));
        }
        Err(bad())
    };
    out.push(comma(span));
    if word("RETURNING") {
        let end = top_level(tokens, at, close)
            .into_iter()
            .find(|&p| p > at + 1 && CLAUSES.iter().any(|c| is_word(&tokens[p].token, c)))
            .unwrap_or(close);
        let text: Vec<String> = tokens[at + 1..end].iter().map(|t| t.token.to_string()).collect();
        out.extend([literal("$RETURNING", span), comma(span), literal(text.join(" "), span)]);
        return Ok(end);
    }
    if word("WITH") || word("WITHOUT") {
        let end = behind(at, "WRAPPER").ok_or_else(bad)?;
        let kind = if word("WITHOUT") {
            "WITHOUT"
        } else if words_at(tokens, at + 1, &["CONDITIONAL"]) {
            "CONDITIONAL"
        } else {
            "UNCONDITIONAL"
        };
        out.push(literal(format!("${kind} WRAPPER"), span));
        return Ok(end + 1);
    }
    if word("DEFAULT") {
        let on = behind(at, "ON").ok_or_else(bad)?;
        let (what, end) = handling(on)?;
        out.extend([literal(format!("$DEFAULT {what}"), span), comma(span)]);
        out.extend_from_slice(&tokens[at + 1..on]);
        return Ok(end);
    }
    if word("EMPTY") {
        let kind = if words_at(tokens, at + 1, &["ARRAY"]) {
            "EMPTY ARRAY"
        } else if words_at(tokens, at + 1, &["OBJECT"]) {
            "EMPTY OBJECT"
        } else {
            return Err(bad());
        };
        let (what, end) = handling(at + 2)?;
        out.push(literal(format!("${kind} {what}"), span));
        return Ok(end);
    }
    let kind = ["NULL", "ERROR", "TRUE", "FALSE", "UNKNOWN"].into_iter().find(|k| word(k)).ok_or_else(bad)?;
    let (what, end) = handling(at + 1)?;
    out.push(literal(format!("${kind} {what}"), span));
    Ok(end)
}

/// Takes NULL ON NULL or ABSENT ON NULL from the end of the arguments.
fn take_nulls(tokens: &mut Tokens, close: usize, default: &str) -> String {
    for kind in ["NULL", "ABSENT"] {
        if close >= 3 && words_at(tokens, close - 3, &[kind, "ON", "NULL"]) {
            tokens.drain(close - 3..close);
            return kind.to_owned();
        }
    }
    default.to_owned()
}

/// The handling of NULLs becomes the first argument, of an aggregate the last.
fn json_nulls(tokens: &mut Tokens, at: usize, close: usize, default: &str, last: bool) {
    let before = tokens.len();
    let kind = take_nulls(tokens, close, default);
    let close = close - (before - tokens.len());
    let span = tokens[at].span;
    let empty = close == at + 2;
    if last {
        tokens.splice(close..close, [comma(span), literal(kind, span)]);
    } else if empty {
        tokens.insert(close, literal(kind, span));
    } else {
        tokens.splice(at + 2..at + 2, [literal(kind, span), comma(span)]);
    }
}

/// `[KEY] k VALUE v` and `k: v` become `k, v`.
fn json_object(tokens: &mut Tokens, at: usize, close: usize, aggregate: bool) -> Result<(), SqlError> {
    let mut pairs = 0;
    let mut members = 1;
    let mut drop = Vec::new();
    for position in top_level(tokens, at + 1, close) {
        let begins = position == at + 2 || tokens[position - 1].token == Token::Comma;
        match &tokens[position].token {
            Token::Comma => members += 1,
            Token::Colon => {
                pairs += 1;
                tokens[position].token = Token::Comma;
            }
            token if is_word(token, "VALUE") => {
                pairs += 1;
                tokens[position].token = Token::Comma;
            }
            token if begins && is_word(token, "KEY") => drop.push(position),
            _ => {}
        }
    }
    if close > at + 2 && pairs != members {
        return Err(SqlError::parse("JSON_OBJECT takes pairs: KEY k VALUE v", Position::of(tokens[at].span)));
    }
    let close = close - drop.len();
    drop.into_iter().rev().for_each(|position| {
        tokens.remove(position);
    });
    json_nulls(tokens, at, close, "NULL", aggregate);
    Ok(())
}

fn position(tokens: &mut Tokens, at: usize, close: usize) {
    let top = top_level(tokens, at + 1, close);
    let find = |word: &str| top.iter().copied().find(|&p| is_word(&tokens[p].token, word));
    if let (Some(inside), Some(from)) = (find("IN"), find("FROM")) {
        tokens[at] = function_name("LOCATE", tokens[at].span);
        tokens[inside].token = Token::Comma;
        tokens[from].token = Token::Comma;
    }
}

fn trim(tokens: &mut Tokens, at: usize) {
    let side = ["BOTH", "LEADING", "TRAILING"].iter().any(|side| words_at(tokens, at + 2, &[side, "FROM"]));
    if side {
        let span = tokens[at].span;
        tokens.insert(at + 3, literal(" ", span));
    }
}

fn between(tokens: &mut Tokens, at: usize) {
    if words_at(tokens, at + 1, &["ASYMMETRIC"]) {
        tokens.remove(at + 1);
        return;
    }
    if !words_at(tokens, at + 1, &["SYMMETRIC"]) {
        return;
    }
    let Some(and) = top_level(tokens, at + 1, tokens.len()).into_iter().find(|&p| is_word(&tokens[p].token, "AND"))
    else {
        return;
    };
    let span = tokens[at + 1].span;
    tokens[at + 1] = function_name(SYMMETRIC, span);
    tokens.insert(and, TokenWithSpan::new(Token::RParen, span));
    tokens.insert(at + 2, TokenWithSpan::new(Token::LParen, span));
}

fn opening(tokens: &[TokenWithSpan], close: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for position in (0..=close).rev() {
        match tokens[position].token {
            Token::RParen | Token::RBracket => depth += 1,
            Token::LParen | Token::LBracket => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(position);
                }
            }
            _ => {}
        }
    }
    None
}

fn overlaps(tokens: &mut Tokens, at: usize) {
    let before = at > 0 && tokens[at - 1].token == Token::RParen;
    let after = tokens.get(at + 1).is_some_and(|t| t.token == Token::LParen);
    if !before || !after {
        return;
    }
    let (Some(start), Some(end)) = (opening(tokens, at - 1), closing(tokens, at + 1)) else { return };
    let span = tokens[at].span;
    tokens.insert(end, TokenWithSpan::new(Token::RParen, span));
    tokens[at].token = Token::Comma;
    tokens.splice(start..start, [function_name(OVERLAPS, span), TokenWithSpan::new(Token::LParen, span)]);
}

/// `(a - b) DAY TO SECOND`, where `(` stands at `open`.
fn difference(tokens: &mut Tokens, open: usize) {
    const UNITS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    if open > 0 && matches!(tokens[open - 1].token, Token::Word(_)) && !is_keyword(&tokens[open - 1].token) {
        return;
    }
    let Some(close) = closing(tokens, open) else { return };
    let unit_at = |at: usize| UNITS.into_iter().find(|unit| words_at(tokens, at, &[unit]));
    let Some(unit) = unit_at(close + 1) else { return };
    let Some(minus) =
        top_level(tokens, open, close).into_iter().rev().find(|&p| tokens[p].token == Token::Minus && p > open + 1)
    else {
        return;
    };
    let mut end = close + 2;
    if words_at(tokens, end, &["TO"]) && unit_at(end + 1).is_some() {
        end += 2;
    }
    let span = tokens[open].span;
    tokens.splice(close..end, [comma(span), literal(unit, span), TokenWithSpan::new(Token::RParen, span)]);
    tokens[minus].token = Token::Comma;
    tokens.insert(open, function_name(MINUS, span));
}

/// Words after which a parenthesis begins an expression, not arguments.
fn is_keyword(token: &Token) -> bool {
    ["SELECT", "WHERE", "AND", "OR", "NOT", "ON", "WHEN", "THEN", "ELSE", "HAVING", "BY", "IN", "BETWEEN", "CASE"]
        .iter()
        .any(|word| is_word(token, word))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokenize;

    fn rewritten(text: &str) -> String {
        tokenize(text).unwrap().iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn calls_become_plain() {
        for (text, expected) in [
            (
                "JSON_VALUE(j, '$.a' RETURNING INT DEFAULT 0 ON EMPTY NULL ON ERROR)",
                "JSON_VALUE ( j , '$.a' , '$RETURNING' , 'INT' , '$DEFAULT ON EMPTY' , 0 , '$NULL ON ERROR' )",
            ),
            ("JSON_QUERY(j, p WITH CONDITIONAL ARRAY WRAPPER)", "JSON_QUERY ( j , p , '$CONDITIONAL WRAPPER' )"),
            ("JSON_EXISTS(j, p)", "JSON_EXISTS ( j , p )"),
            (
                "JSON_OBJECT(KEY 'a' VALUE JSON_ARRAY(1), 'b': 2 ABSENT ON NULL)",
                "JSON_OBJECT ( 'ABSENT' , 'a' , JSON_ARRAY ( 'ABSENT' , 1 ) , 'b' , 2 )",
            ),
            ("JSON_OBJECT()", "JSON_OBJECT ( 'NULL' )"),
            ("JSON_ARRAYAGG(x)", "JSON_ARRAYAGG ( x , 'ABSENT' )"),
            ("JSON_OBJECTAGG(KEY k VALUE v)", "JSON_OBJECTAGG ( k , v , 'NULL' )"),
            ("POSITION(a IN b FROM 2)", "LOCATE ( a , b , 2 )"),
            ("TRIM(BOTH FROM x)", "TRIM ( BOTH ' ' FROM x )"),
            ("x BETWEEN SYMMETRIC f(a) AND b", "x BETWEEN $SYMMETRIC ( f ( a ) ) AND b"),
            ("x BETWEEN ASYMMETRIC a AND b", "x BETWEEN a AND b"),
            ("(a, b) OVERLAPS (c, d)", "$OVERLAPS ( ( a , b ) , ( c , d ) )"),
            ("(a - b) DAY TO SECOND", "$MINUS ( a , b , 'DAY' )"),
            ("f(a - b) day", "f ( a - b ) day"),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
        assert!(tokenize("JSON_OBJECT('a', 1)").is_err());
        assert!(tokenize("JSON_QUERY(a, '$.a' NULL QUOTES)").is_err());
    }
}
