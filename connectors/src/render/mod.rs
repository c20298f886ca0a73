//! Rows as text for people and programs.
//!
//! | module | what |
//! | --- | --- |
//! | [`changelog`] | one JSON object a row, with the kind of change |
//! | [`java`] | rows as Flink's print sink shows them |
//! | [`table`] | a plain table for terminals |

pub mod changelog;
pub mod java;
pub mod table;
#[cfg(test)]
mod tests;
