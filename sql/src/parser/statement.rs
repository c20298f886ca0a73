//! The statement parser: everything that is not a query.

use sqlparser::tokenizer::{Span, Token};

use super::cursor::Cursor;
use super::statement_ast::*;
use super::tokens::OPTIONS_HINT;
use crate::error::SqlError;

/// Reads one statement; a trailing `;` is allowed.
pub(crate) fn parse_statement(text: &str) -> Result<Statement, SqlError> {
    let mut cursor = Cursor::new(text)?;
    if cursor.at_end() {
        return Err(SqlError::parse("the statement is empty", None));
    }
    let statement = statement(&mut cursor)?;
    cursor.expect_end()?;
    Ok(statement)
}

fn statement(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let first = match c.peek() {
        Token::LParen => return query(c),
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => return Err(c.expected("a statement")),
    };
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" => query(c),
        "CREATE" => create(c),
        "DROP" => drop(c),
        "ALTER" => alter(c),
        "USE" => use_statement(c),
        "SET" => set(c),
        "RESET" => reset(c),
        "SHOW" => show(c),
        "DESCRIBE" | "DESC" => describe(c),
        "EXPLAIN" => explain(c),
        "INSERT" => Ok(Statement::Insert(Box::new(insert(c)?))),
        "EXECUTE" | "BEGIN" => execute(c),
        "UPDATE" | "DELETE" | "TRUNCATE" | "ANALYZE" | "CALL" | "COMPILE" | "LOAD" | "UNLOAD" | "ADD" | "REMOVE"
        | "STOP" | "MERGE" => Err(SqlError::unsupported(format!("{first} statements are"), c.span())),
        _ => Err(c.expected("a statement")),
    }
}

fn query(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    Ok(Statement::Query(Box::new(c.query()?)))
}

fn name(c: &mut Cursor<'_>, what: &str) -> Result<Name, SqlError> {
    let span = c.span();
    Ok(Name { parts: c.object_name(what)?, span })
}

fn create(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.expect("CREATE")?;
    if c.is_keyword("OR") {
        return Err(SqlError::unsupported("CREATE OR REPLACE and CREATE OR ALTER are", start));
    }
    let temporary = c.take("TEMPORARY");
    if c.take("TABLE") {
        return create_table(c, temporary);
    }
    if c.take("VIEW") {
        return create_view(c, temporary);
    }
    if c.take("DATABASE") {
        return create_database(c);
    }
    for other in ["CATALOG", "FUNCTION", "SYSTEM", "MODEL", "MATERIALIZED", "CONNECTION"] {
        if c.is_keyword(other) {
            return Err(SqlError::unsupported(format!("CREATE {other} is"), start));
        }
    }
    Err(c.expected("TABLE, VIEW or DATABASE"))
}

fn create_database(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let if_not_exists = c.take("IF NOT EXISTS");
    let name = c.object_name("the name of the database")?;
    if c.take("COMMENT") {
        c.string("a comment in quotes")?;
    }
    if c.take("WITH") {
        c.parenthesized(option)?;
    }
    Ok(Statement::CreateDatabase { name, if_not_exists })
}

fn create_table(c: &mut Cursor<'_>, temporary: bool) -> Result<Statement, SqlError> {
    let if_not_exists = c.take("IF NOT EXISTS");
    let mut table = CreateTable {
        name: name(c, "the name of the table")?,
        temporary,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: None,
        comment: None,
        partitioned_by: Vec::new(),
        options: Vec::new(),
        like: None,
        query: None,
    };
    if c.take_token(&Token::LParen) && !c.take_token(&Token::RParen) {
        c.comma_separated(|c| table_element(c, &mut table))?;
        c.expect_token(&Token::RParen)?;
    }
    if c.take("COMMENT") {
        table.comment = Some(c.string("a comment in quotes")?);
    }
    if c.is_keyword("DISTRIBUTED") {
        return Err(SqlError::unsupported("DISTRIBUTED BY is", c.span()));
    }
    if c.take("PARTITIONED BY") {
        table.partitioned_by = c.parenthesized(|c| c.identifier("the name of a column"))?;
    }
    if c.take("WITH") {
        table.options = c.parenthesized(option)?;
    }
    if c.take("LIKE") {
        table.like = Some(like(c)?);
    } else if c.take("AS") {
        table.query = Some(c.query()?);
    }
    Ok(Statement::CreateTable(Box::new(table)))
}

fn option(c: &mut Cursor<'_>) -> Result<(String, String), SqlError> {
    let key = c.string("the key of an option, in quotes")?;
    c.expect_token(&Token::Eq)?;
    Ok((key, c.string("the value of an option, in quotes")?))
}

fn table_element(c: &mut Cursor<'_>, table: &mut CreateTable) -> Result<(), SqlError> {
    let span = c.span();
    if c.are_keywords(&["WATERMARK", "FOR"]) {
        let watermark = watermark(c)?;
        if table.watermark.replace(watermark).is_some() {
            return Err(SqlError::parse("a table can have only one watermark", crate::Position::of(span)));
        }
        return Ok(());
    }
    if c.is_keyword("CONSTRAINT") || c.are_keywords(&["PRIMARY", "KEY"]) || c.is_keyword("UNIQUE") {
        let constraint = if c.take("CONSTRAINT") { Some(c.identifier("the name of the constraint")?) } else { None };
        if c.is_keyword("UNIQUE") {
            return Err(SqlError::unsupported("UNIQUE constraints are", span));
        }
        c.expect("PRIMARY KEY")?;
        let columns = c.parenthesized(|c| c.identifier("the name of a column"))?;
        not_enforced(c, span)?;
        return set_primary_key(table, PrimaryKeyDef { name: constraint, columns, span });
    }
    let column = column(c, table)?;
    table.columns.push(column);
    Ok(())
}

fn set_primary_key(table: &mut CreateTable, key: PrimaryKeyDef) -> Result<(), SqlError> {
    let span = key.span;
    match table.primary_key.replace(key) {
        None => Ok(()),
        Some(_) => Err(SqlError::validation_at("a table can have only one primary key", span)),
    }
}

fn not_enforced(c: &mut Cursor<'_>, span: Span) -> Result<(), SqlError> {
    if c.take("NOT ENFORCED") {
        return Ok(());
    }
    Err(SqlError::validation_at(
        "a primary key must be declared NOT ENFORCED: the data belongs to the external system, uniqueness is \
         trusted and not checked",
        span,
    ))
}

fn watermark(c: &mut Cursor<'_>) -> Result<WatermarkDef, SqlError> {
    let span = c.span();
    c.expect("WATERMARK FOR")?;
    let column = c.identifier("the name of the rowtime column")?;
    if c.take_token(&Token::Period) {
        return Err(SqlError::validation_at("the rowtime column cannot be nested in another", span));
    }
    c.expect("AS")?;
    let start = c.span().start;
    let expr = c.expression()?;
    Ok(WatermarkDef { column, expr, text: c.text_from(start).to_owned(), span })
}

fn column(c: &mut Cursor<'_>, table: &mut CreateTable) -> Result<ColumnDef, SqlError> {
    let span = c.span();
    let name = c.identifier("the name of a column")?;
    let kind = if c.take("AS") {
        let start = c.span().start;
        let expr = c.expression()?;
        ColumnDefKind::Computed { expr: Box::new(expr), text: c.text_from(start).to_owned() }
    } else if matches!(c.peek(), Token::Comma | Token::RParen) {
        ColumnDefKind::OfQuery
    } else {
        let data_type = c.data_type()?;
        if c.take("METADATA") {
            let key = if c.take("FROM") { Some(c.string("the metadata key, in quotes")?) } else { None };
            ColumnDefKind::Metadata { data_type, key, is_virtual: c.take("VIRTUAL") }
        } else {
            inline_key(c, table, &name, span)?;
            ColumnDefKind::Physical(data_type)
        }
    };
    let comment = if c.take("COMMENT") { Some(c.string("a comment in quotes")?) } else { None };
    Ok(ColumnDef { name, span, kind, comment })
}

fn inline_key(c: &mut Cursor<'_>, table: &mut CreateTable, column: &str, span: Span) -> Result<(), SqlError> {
    let constraint = if c.take("CONSTRAINT") { Some(c.identifier("the name of the constraint")?) } else { None };
    if !c.take("PRIMARY KEY") {
        return if constraint.is_none() { Ok(()) } else { Err(c.expected("PRIMARY KEY")) };
    }
    not_enforced(c, span)?;
    set_primary_key(table, PrimaryKeyDef { name: constraint, columns: vec![column.to_owned()], span })
}

fn like(c: &mut Cursor<'_>) -> Result<LikeClause, SqlError> {
    let name = name(c, "the name of a table")?;
    let mut options = Vec::new();
    if c.take_token(&Token::LParen) {
        while !c.take_token(&Token::RParen) {
            let how = ["INCLUDING", "EXCLUDING", "OVERWRITING"].into_iter().find(|word| c.take(word));
            let how = how.ok_or_else(|| c.expected("INCLUDING, EXCLUDING or OVERWRITING"))?;
            const WHAT: [&str; 7] =
                ["ALL", "CONSTRAINTS", "DISTRIBUTION", "GENERATED", "METADATA", "OPTIONS", "PARTITIONS"];
            let what = WHAT.into_iter().chain(["WATERMARKS"]).find(|word| c.take(word));
            let what = what.ok_or_else(|| c.expected("what to include or exclude, as OPTIONS"))?;
            options.push((how.to_owned(), what.to_owned()));
        }
    }
    Ok(LikeClause { name, options })
}

fn create_view(c: &mut Cursor<'_>, temporary: bool) -> Result<Statement, SqlError> {
    let if_not_exists = c.take("IF NOT EXISTS");
    let name = name(c, "the name of the view")?;
    let columns = if matches!(c.peek(), Token::LParen) {
        c.parenthesized(|c| c.identifier("the name of a column"))?
    } else {
        Vec::new()
    };
    let comment = if c.take("COMMENT") { Some(c.string("a comment in quotes")?) } else { None };
    c.expect("AS")?;
    let start = c.span().start;
    let query = c.query()?;
    let text = c.text_from(start).to_owned();
    Ok(Statement::CreateView(Box::new(CreateView { name, temporary, if_not_exists, columns, comment, query, text })))
}

fn drop(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.expect("DROP")?;
    let temporary = c.take("TEMPORARY");
    let kind = if c.take("TABLE") {
        DropKind::Table
    } else if c.take("VIEW") {
        DropKind::View
    } else if c.take("DATABASE") {
        DropKind::Database
    } else if ["CATALOG", "FUNCTION", "SYSTEM", "MODEL", "MATERIALIZED"].iter().any(|w| c.is_keyword(w)) {
        return Err(SqlError::unsupported("dropping anything but tables, views and databases is", start));
    } else {
        return Err(c.expected("TABLE, VIEW or DATABASE"));
    };
    let if_exists = c.take("IF EXISTS");
    let name = name(c, "a name")?;
    let cascade = kind == DropKind::Database && c.take("CASCADE");
    if kind == DropKind::Database && !cascade {
        c.take("RESTRICT");
    }
    Ok(Statement::Drop(Drop { kind, name, temporary, if_exists, cascade }))
}

fn alter(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.expect("ALTER")?;
    if !c.take("TABLE") {
        return Err(SqlError::unsupported("altering anything but tables is", start));
    }
    let if_exists = c.take("IF EXISTS");
    let name = name(c, "the name of the table")?;
    let change = if c.take("RENAME TO") {
        TableChange::Rename(c.object_name("the new name")?)
    } else if c.take("SET") {
        TableChange::SetOptions(c.parenthesized(option)?)
    } else if c.take("RESET") {
        TableChange::ResetOptions(c.parenthesized(|c| c.string("the key of an option, in quotes"))?)
    } else {
        return Err(SqlError::unsupported("ALTER TABLE other than RENAME TO, SET and RESET is", c.span()));
    };
    Ok(Statement::AlterTable { name, if_exists, change })
}

fn use_statement(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.expect("USE")?;
    if c.take("CATALOG") {
        return Ok(Statement::UseCatalog { name: c.identifier("the name of a catalog")? });
    }
    if c.is_keyword("MODULES") {
        return Err(SqlError::unsupported("modules are", start));
    }
    Ok(Statement::Use { name: c.object_name("the name of a database")? })
}

fn set(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    c.expect("SET")?;
    if c.at_end() || matches!(c.peek(), Token::SemiColon) {
        return Ok(Statement::Set(None));
    }
    let key = c.string("the configuration key, in quotes: SET 'key' = 'value'")?;
    c.expect_token(&Token::Eq)?;
    Ok(Statement::Set(Some((key, c.string("the value, in quotes: SET 'key' = 'value'")?))))
}

fn reset(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    c.expect("RESET")?;
    if c.at_end() || matches!(c.peek(), Token::SemiColon) {
        return Ok(Statement::Reset(None));
    }
    Ok(Statement::Reset(Some(c.string("the configuration key, in quotes: RESET 'key'")?)))
}

fn show(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.expect("SHOW")?;
    const KINDS: [(&str, ShowKind); 9] = [
        ("CATALOGS", ShowKind::Catalogs),
        ("CURRENT CATALOG", ShowKind::CurrentCatalog),
        ("DATABASES", ShowKind::Databases),
        ("CURRENT DATABASE", ShowKind::CurrentDatabase),
        ("TABLES", ShowKind::Tables),
        ("VIEWS", ShowKind::Views),
        ("COLUMNS", ShowKind::Columns),
        ("CREATE TABLE", ShowKind::CreateTable),
        ("CREATE VIEW", ShowKind::CreateView),
    ];
    let Some((_, kind)) = KINDS.into_iter().find(|(words, _)| c.take(words)) else {
        if c.at_end() {
            return Err(c.expected("what to show, as TABLES"));
        }
        return Err(SqlError::unsupported(format!("SHOW {} is", c.peek()), start));
    };
    let mut show = Show { kind, of: None, filter: None };
    match kind {
        ShowKind::CreateTable | ShowKind::CreateView => show.of = Some(name(c, "a name")?),
        ShowKind::Columns => {
            if !c.take("FROM") {
                c.expect("IN")?;
            }
            show.of = Some(name(c, "the name of a table")?);
        }
        ShowKind::Tables | ShowKind::Views | ShowKind::Databases if c.take("FROM") || c.take("IN") => {
            show.of = Some(name(c, "the name of a database or catalog")?);
        }
        _ => {}
    }
    let negated = c.take("NOT");
    if c.is_keyword("LIKE") || c.is_keyword("ILIKE") {
        let ignore_case = c.is_keyword("ILIKE");
        c.advance();
        show.filter = Some(ShowFilter { negated, ignore_case, pattern: c.string("a pattern in quotes")? });
    } else if negated {
        return Err(c.expected("LIKE"));
    }
    Ok(Statement::Show(show))
}

fn describe(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let start = c.span();
    c.advance();
    for other in ["CATALOG", "DATABASE", "MODEL", "FUNCTION", "JOB"] {
        if c.is_keyword(other) && !matches!(c.peek_nth(1), Token::EOF | Token::SemiColon | Token::Period) {
            return Err(SqlError::unsupported(format!("DESCRIBE {other} is"), start));
        }
    }
    c.take("EXTENDED");
    Ok(Statement::Describe(name(c, "the name of a table or view")?))
}

fn explain(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    c.expect("EXPLAIN")?;
    let mut details = Vec::new();
    if !c.take("PLAN FOR") {
        const DETAILS: [&str; 4] = ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"];
        while let Some(detail) = DETAILS.into_iter().find(|word| c.take(word)) {
            details.push(detail.to_owned());
            if !c.take_token(&Token::Comma) {
                break;
            }
        }
    }
    let of = if c.is_keyword("STATEMENT") { statement_set(c)? } else { statement(c)? };
    match of {
        Statement::Query(_) | Statement::Insert(_) | Statement::InsertSet(_) => {
            Ok(Statement::Explain { details, of: Box::new(of) })
        }
        _ => Err(SqlError::parse("only queries, INSERT and statement sets can be explained", None)),
    }
}

fn execute(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    if c.are_keywords(&["BEGIN", "STATEMENT", "SET"]) {
        return client_statement_set(c);
    }
    let start = c.span();
    c.expect("EXECUTE")?;
    if c.is_keyword("STATEMENT") {
        return statement_set(c);
    }
    if c.is_keyword("INSERT") {
        return Ok(Statement::Insert(Box::new(insert(c)?)));
    }
    if c.is_keyword("SELECT") || c.is_keyword("WITH") {
        return query(c);
    }
    Err(SqlError::unsupported("EXECUTE of anything but INSERT, SELECT and STATEMENT SET is", start))
}

fn statement_set(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    c.expect("STATEMENT SET BEGIN")?;
    inserts(c)
}

/// `BEGIN STATEMENT SET; INSERT ...; END`, the older spelling of clients.
fn client_statement_set(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    c.expect("BEGIN STATEMENT SET")?;
    c.expect_token(&Token::SemiColon)?;
    inserts(c)
}

fn inserts(c: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let mut inserts = Vec::new();
    while !c.take("END") {
        if !c.is_keyword("INSERT") {
            return Err(c.expected("INSERT or END in a statement set"));
        }
        inserts.push(insert(c)?);
        c.expect_token(&Token::SemiColon)?;
    }
    if inserts.is_empty() {
        return Err(SqlError::parse("the statement set is empty", None));
    }
    Ok(Statement::InsertSet(inserts))
}

fn insert(c: &mut Cursor<'_>) -> Result<Insert, SqlError> {
    c.expect("INSERT")?;
    let overwrite = c.take("OVERWRITE");
    if !overwrite {
        c.expect("INTO")?;
    }
    c.take("TABLE");
    let table = name(c, "the name of the table to write")?;
    let hints = if is_hint(c) { table_hints(c)? } else { Vec::new() };
    let partition = if c.take("PARTITION") { c.parenthesized(partition_value)? } else { Vec::new() };
    let columns = if begins_column_list(c) { c.parenthesized(insert_column)? } else { Vec::new() };
    let query = c.query()?;
    if c.are_keywords(&["ON", "CONFLICT"]) {
        return Err(SqlError::unsupported("ON CONFLICT is", c.span()));
    }
    Ok(Insert { table, hints, overwrite, partition, columns, query })
}

fn is_hint(c: &Cursor<'_>) -> bool {
    matches!(c.peek(), Token::LParen) && c.is_keyword_at(1, OPTIONS_HINT)
}

fn table_hints(c: &mut Cursor<'_>) -> Result<Vec<(String, String)>, SqlError> {
    c.expect_token(&Token::LParen)?;
    c.expect(OPTIONS_HINT)?;
    let options = c.parenthesized(option)?;
    c.expect_token(&Token::RParen)?;
    Ok(options)
}

fn partition_value(c: &mut Cursor<'_>) -> Result<(String, sqlparser::ast::Expr), SqlError> {
    let column = c.identifier("the name of a partition column")?;
    c.expect_token(&Token::Eq)?;
    Ok((column, c.expression()?))
}

fn begins_column_list(c: &Cursor<'_>) -> bool {
    matches!(c.peek(), Token::LParen)
        && !["SELECT", "VALUES", "WITH"].iter().any(|word| c.is_keyword_at(1, word))
        && matches!(c.peek_nth(1), Token::Word(_))
}

fn insert_column(c: &mut Cursor<'_>) -> Result<(String, Span), SqlError> {
    let span = c.span();
    Ok((c.identifier("the name of a column")?, span))
}
