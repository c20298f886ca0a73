//! Tests of window aggregation.
