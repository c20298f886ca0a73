//! Flink SQL to job graphs: parser, binder, planner and the session that holds tables and settings.
//!
//! Everything here is pure: no I/O, no clock, no threads. [`Session::execute`] takes one statement
//! and gives a result or a job graph; [`split_script`] cuts scripts into statements.
//!
//! | module | what |
//! | --- | --- |
//! | [`parser`] | text to syntax trees, by Flink's lexical rules |
//! | [`binder`] | expressions: names, types, coercion, functions |
//! | `catalog` | tables and views |
//! | `planner` | queries and inserts to job graphs |
//! | [`session`] | settings and statements |
//! | [`resolver`] | SQL text inside job graphs |
//! | [`error`] | what is wrong with a statement, and where |

#![forbid(missing_docs)]

pub mod binder;
mod catalog;
pub mod error;
mod functions;
pub mod parser;
mod planner;
pub mod resolver;
pub mod session;

#[cfg(test)]
mod tests;

pub use error::{Position, SqlError};
pub use parser::{ScriptStatement, split_script};
pub use planner::ChangelogMode;
pub use resolver::SqlResolver;
pub use session::{FunctionSignature, Session, SessionSettings, StatementResult, TableResult, UserFunctions};
