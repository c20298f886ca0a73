//! Scripts to statements.

use crate::error::Position;

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptStatement {
    /// The text from the first token, without the `;`.
    pub text: String,
    /// Where it begins in the script.
    pub position: Position,
}

/// Splits a script at its `;`. Those in quotes, backticks and comments do not count, nor those within
/// a statement set. What is not closed runs to the end, where parsing it gives the error.
pub fn split_script(script: &str) -> Vec<ScriptStatement> {
    let mut splitter = Splitter::new(script);
    while let Some((offset, c)) = splitter.next() {
        match c {
            '\'' | '`' | '"' => {
                splitter.begin(offset);
                splitter.words.clear();
                splitter.skip_until(c);
            }
            '-' if splitter.peek() == Some('-') => splitter.skip_line(),
            '/' if splitter.peek() == Some('*') => splitter.skip_comment(),
            ';' => splitter.semicolon(offset),
            c if c.is_whitespace() => {}
            c if c.is_alphanumeric() || c == '_' => {
                splitter.begin(offset);
                splitter.word(offset);
            }
            _ => {
                splitter.begin(offset);
                splitter.words.clear();
            }
        }
    }
    splitter.finish()
}

struct Splitter<'a> {
    script: &'a str,
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    /// Where the current statement begins, in bytes.
    start: Option<usize>,
    /// The last words without anything between them, upper case.
    words: Vec<String>,
    in_set: bool,
    set_ended: bool,
    open_cases: usize,
    statements: Vec<ScriptStatement>,
}

impl<'a> Splitter<'a> {
    fn new(script: &'a str) -> Self {
        Splitter {
            script,
            chars: script.char_indices().peekable(),
            start: None,
            words: Vec::new(),
            in_set: false,
            set_ended: false,
            open_cases: 0,
            statements: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<(usize, char)> {
        self.chars.next()
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn begin(&mut self, offset: usize) {
        self.start.get_or_insert(offset);
        self.set_ended = false;
    }

    fn skip_until(&mut self, quote: char) {
        self.chars.by_ref().find(|(_, c)| *c == quote);
    }

    fn skip_line(&mut self) {
        self.chars.by_ref().find(|(_, c)| *c == '\n');
    }

    fn skip_comment(&mut self) {
        self.chars.next();
        let mut star = false;
        for (_, c) in self.chars.by_ref() {
            if star && c == '/' {
                return;
            }
            star = c == '*';
        }
    }

    fn word(&mut self, offset: usize) {
        let mut end = self.script.len();
        while let Some(&(at, c)) = self.chars.peek() {
            if !(c.is_alphanumeric() || c == '_' || c == '$') {
                end = at;
                break;
            }
            self.chars.next();
        }
        self.words.push(self.script[offset..end].to_ascii_uppercase());
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [.., "STATEMENT", "SET", "BEGIN"] | ["BEGIN", "STATEMENT", "SET"] => self.in_set = true,
            [.., "CASE"] => self.open_cases += 1,
            [.., "END"] if self.open_cases > 0 => self.open_cases -= 1,
            [.., "END"] => self.set_ended = true,
            _ => {}
        }
    }

    fn semicolon(&mut self, offset: usize) {
        self.words.clear();
        self.open_cases = 0;
        if !self.in_set || self.set_ended {
            self.end_statement(offset);
        }
    }

    fn end_statement(&mut self, end: usize) {
        if let Some(start) = self.start.take() {
            let before = &self.script[..start];
            let line = before.matches('\n').count() as u64 + 1;
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) as u64 + 1;
            let text = self.script[start..end].trim_end().to_owned();
            self.statements.push(ScriptStatement { text, position: Position { line, column } });
        }
        self.in_set = false;
        self.set_ended = false;
    }

    fn finish(mut self) -> Vec<ScriptStatement> {
        self.end_statement(self.script.len());
        self.statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split_script(script).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not_split() {
        assert_eq!(
            texts("-- a;b\nSELECT ';' AS `;` /* ; */;\n\n;SELECT 'it''s;'"),
            ["SELECT ';' AS `;` /* ; */", "SELECT 'it''s;'"]
        );
        assert_eq!(texts(" -- nothing\n/* at all; */ ;"), Vec::<String>::new());
    }

    #[test]
    fn a_statement_set_is_one_statement() {
        let set = "EXECUTE STATEMENT SET\nBEGIN\n INSERT INTO a SELECT CASE WHEN x THEN 1 END;\n INSERT INTO b SELECT 1;\nEND";
        assert_eq!(texts(&format!("{set}; SELECT 1;")), [set, "SELECT 1"]);
        assert_eq!(texts("SELECT CASE WHEN a THEN b END; SELECT 2"), ["SELECT CASE WHEN a THEN b END", "SELECT 2"]);
    }

    #[test]
    fn statements_know_where_they_begin() {
        let statements = split_script("SELECT 1;\n  SELECT 2;");
        assert_eq!(statements[1].position, Position { line: 2, column: 3 });
    }
}
