//! Tests of local aggregation.
