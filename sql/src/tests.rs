//! Whole statements through the session, with connectors that accept everything they are told to.
