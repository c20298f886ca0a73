//! A seeded virtual world around the JobManager's state machines.

pub mod plans;
