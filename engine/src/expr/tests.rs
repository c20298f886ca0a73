//! Kernels through compiled expressions.
