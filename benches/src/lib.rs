//! Microbenchmarks of the data plane: `cargo bench -p hurtig-benches`, or `make bench`. Whole jobs are
//! measured by `hurtig bench`.
