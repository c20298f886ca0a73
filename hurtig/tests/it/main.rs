//! End-to-end tests of the `hurtig` binary: real processes on loopback, ports and folders of their
//! own, stopped by their pids.

mod bad_input;
mod bench;
mod chaos;
mod commands;
mod decommission;
mod demo;
mod embedded;
mod emr;
mod exchange;
mod golden;
mod ha;
mod harness;
mod incremental;
mod kill;
mod large_state;
mod operations;
mod recovery;
mod region;
mod resources;
mod savepoints;
mod sql_command;
mod stall;
mod streaming;
mod tls;
mod unaligned;
