//! Flink SQL to job graphs: parser, binder, planner and the session that holds tables and settings.
//!
//! Everything here is pure: no I/O, no clock, no threads.
//!
//! | module | what |
//! | --- | --- |
//! | [`binder`] | expressions of the parser to typed expressions |
//! | [`error`] | what is wrong with a statement, and where |
//! | [`session`] | catalog, settings, statements |

#![forbid(missing_docs)]

pub mod binder;
pub mod error;
mod functions;
pub mod session;

pub use error::{Position, SqlError};
pub use session::SessionSettings;
