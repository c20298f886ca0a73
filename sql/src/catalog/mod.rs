//! The session's tables and views, by catalog, database and name.
//!
//! Held in memory only: the built-in catalog of Flink. Temporary objects hide permanent ones of the
//! same name.

mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub(crate) use table::{ColumnKind, PrimaryKey, Table, TableColumn, View, Watermark};

use crate::error::SqlError;
use crate::parser::Name;

/// The only catalog.
pub(crate) const DEFAULT_CATALOG: &str = "default_catalog";
/// The database that exists from the start.
pub(crate) const DEFAULT_DATABASE: &str = "default_database";

/// The full name of a table or view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectIdentifier {
    pub catalog: String,
    pub database: String,
    pub object: String,
}

impl ObjectIdentifier {
    /// Every part in backticks.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}.{}", quote(&self.catalog), quote(&self.database), quote(&self.object))
    }
}

impl fmt::Display for ObjectIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.database, self.object)
    }
}

/// `name` in backticks.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table or a view.
#[derive(Debug, Clone)]
pub(crate) enum CatalogObject {
    Table(Arc<Table>),
    View(Arc<View>),
}

impl CatalogObject {
    fn is_view(&self) -> bool {
        matches!(self, CatalogObject::View(_))
    }
}

/// All objects, and what unqualified names mean.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    databases: BTreeMap<String, BTreeMap<String, CatalogObject>>,
    temporary: BTreeMap<ObjectIdentifier, CatalogObject>,
    current_database: String,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog {
            databases: BTreeMap::from([(DEFAULT_DATABASE.to_owned(), BTreeMap::new())]),
            temporary: BTreeMap::new(),
            current_database: DEFAULT_DATABASE.to_owned(),
        }
    }
}

impl Catalog {
    pub(crate) fn current_database(&self) -> &str {
        &self.current_database
    }

    /// The full name that `parts` stand for.
    pub(crate) fn identify(&self, parts: &[String]) -> ObjectIdentifier {
        let (catalog, database, object) = match parts {
            [object] => (DEFAULT_CATALOG, self.current_database.as_str(), object.as_str()),
            [database, object] => (DEFAULT_CATALOG, database.as_str(), object.as_str()),
            [catalog, database, object, ..] => (catalog.as_str(), database.as_str(), object.as_str()),
            [] => (DEFAULT_CATALOG, self.current_database.as_str(), ""),
        };
        ObjectIdentifier { catalog: catalog.to_owned(), database: database.to_owned(), object: object.to_owned() }
    }

    pub(crate) fn get(&self, id: &ObjectIdentifier) -> Option<&CatalogObject> {
        self.temporary.get(id).or_else(|| self.permanent(id))
    }

    fn permanent(&self, id: &ObjectIdentifier) -> Option<&CatalogObject> {
        if id.catalog != DEFAULT_CATALOG {
            return None;
        }
        self.databases.get(&id.database)?.get(&id.object)
    }

    /// The object of this name.
    ///
    /// # Errors
    /// There is none; the message suggests a similar name.
    pub(crate) fn find(&self, name: &Name) -> Result<&CatalogObject, SqlError> {
        let id = self.identify(&name.parts);
        self.get(&id).ok_or_else(|| {
            let hint = match self.similar(&id) {
                Some(similar) => format!("; did you mean '{similar}'?"),
                None => String::new(),
            };
            SqlError::validation_at(format!("table or view '{id}' does not exist{hint}"), name.span)
        })
    }

    fn similar(&self, id: &ObjectIdentifier) -> Option<String> {
        let names = self.names(&id.database, false);
        names.into_iter().find(|name| name.eq_ignore_ascii_case(&id.object) || edit_distance(name, &id.object) <= 2)
    }

    /// Adds an object; `Ok(false)` when it exists and that was allowed for.
    pub(crate) fn add(
        &mut self,
        id: &ObjectIdentifier,
        object: CatalogObject,
        temporary: bool,
        if_not_exists: bool,
    ) -> Result<bool, SqlError> {
        self.check_database(id)?;
        let exists = if temporary { self.temporary.contains_key(id) } else { self.permanent(id).is_some() };
        if exists {
            let what = if object.is_view() { "view" } else { "table" };
            return if if_not_exists {
                Ok(false)
            } else {
                Err(SqlError::validation(format!(
                    "could not create the {what}: an object '{id}' already exists; use IF NOT EXISTS or drop it first"
                )))
            };
        }
        self.put(id, object, temporary);
        Ok(true)
    }

    fn put(&mut self, id: &ObjectIdentifier, object: CatalogObject, temporary: bool) {
        if temporary {
            self.temporary.insert(id.clone(), object);
        } else if let Some(database) = self.databases.get_mut(&id.database) {
            database.insert(id.object.clone(), object);
        }
    }

    fn check_database(&self, id: &ObjectIdentifier) -> Result<(), SqlError> {
        if id.catalog != DEFAULT_CATALOG {
            return Err(SqlError::validation(format!("catalog '{}' does not exist", id.catalog)));
        }
        if !self.databases.contains_key(&id.database) {
            return Err(SqlError::validation(format!("database '{}' does not exist", id.database)));
        }
        Ok(())
    }

    /// Replaces a table where it is.
    pub(crate) fn replace(&mut self, table: Table) {
        let id = table.id.clone();
        let temporary = self.temporary.contains_key(&id);
        self.put(&id, CatalogObject::Table(Arc::new(table)), temporary);
    }

    /// Takes an object away. `Ok(false)` when there is none and that was allowed for.
    pub(crate) fn remove(
        &mut self,
        id: &ObjectIdentifier,
        view: bool,
        temporary: bool,
        if_exists: bool,
    ) -> Result<bool, SqlError> {
        let what = if view { "view" } else { "table" };
        if !temporary && self.temporary.get(id).is_some_and(|o| o.is_view() == view) && self.permanent(id).is_some() {
            return Err(SqlError::validation(format!(
                "a temporary {what} '{id}' exists: drop it first with DROP TEMPORARY {}",
                what.to_uppercase()
            )));
        }
        let in_temporary = self.temporary.get(id).is_some_and(|o| o.is_view() == view);
        if in_temporary {
            self.temporary.remove(id);
            return Ok(true);
        }
        if !temporary && self.permanent(id).is_some_and(|o| o.is_view() == view) {
            if let Some(database) = self.databases.get_mut(&id.database) {
                database.remove(&id.object);
            }
            return Ok(true);
        }
        if if_exists {
            return Ok(false);
        }
        let temporary = if temporary { "temporary " } else { "" };
        Err(SqlError::validation(format!("{temporary}{what} '{id}' does not exist")))
    }

    pub(crate) fn create_database(&mut self, name: &[String], if_not_exists: bool) -> Result<(), SqlError> {
        let name = self.database_name(name)?;
        if self.databases.contains_key(&name) {
            return if if_not_exists {
                Ok(())
            } else {
                Err(SqlError::validation(format!("database '{name}' already exists")))
            };
        }
        self.databases.insert(name, BTreeMap::new());
        Ok(())
    }

    pub(crate) fn drop_database(&mut self, name: &[String], if_exists: bool, cascade: bool) -> Result<(), SqlError> {
        let name = self.database_name(name)?;
        match self.databases.get(&name) {
            None if if_exists => return Ok(()),
            None => return Err(SqlError::validation(format!("database '{name}' does not exist"))),
            Some(objects) if !objects.is_empty() && !cascade => {
                return Err(SqlError::validation(format!("database '{name}' is not empty: use CASCADE")));
            }
            Some(_) => {}
        }
        if name == self.current_database {
            return Err(SqlError::validation(format!("database '{name}' is in use: USE another first")));
        }
        self.databases.remove(&name);
        Ok(())
    }

    pub(crate) fn use_database(&mut self, name: &[String]) -> Result<(), SqlError> {
        let name = self.database_name(name)?;
        if !self.databases.contains_key(&name) {
            return Err(SqlError::validation(format!("database '{name}' does not exist")));
        }
        self.current_database = name;
        Ok(())
    }

    pub(crate) fn use_catalog(&mut self, name: &str) -> Result<(), SqlError> {
        if name == DEFAULT_CATALOG {
            return Ok(());
        }
        Err(SqlError::validation(format!("catalog '{name}' does not exist")))
    }

    /// The database that one or two parts name.
    pub(crate) fn database_name(&self, parts: &[String]) -> Result<String, SqlError> {
        match parts {
            [name] => Ok(name.clone()),
            [catalog, name] if catalog == DEFAULT_CATALOG => Ok(name.clone()),
            [catalog, _] => Err(SqlError::validation(format!("catalog '{catalog}' does not exist"))),
            _ => Err(SqlError::validation("the name of a database has one or two parts")),
        }
    }

    pub(crate) fn databases(&self) -> Vec<String> {
        self.databases.keys().cloned().collect()
    }

    /// Names of tables and views of `database`, or of its views only, sorted.
    pub(crate) fn names(&self, database: &str, views_only: bool) -> Vec<String> {
        let permanent = self.databases.get(database).into_iter().flatten();
        let temporary = self.temporary.iter().filter(|(id, _)| id.database == database).map(|(id, o)| (&id.object, o));
        let mut names: Vec<String> = permanent
            .chain(temporary)
            .filter(|(_, object)| !views_only || object.is_view())
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The number of insertions, deletions and replacements between two words.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
