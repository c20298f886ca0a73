//! Tests of the aggregate functions.
