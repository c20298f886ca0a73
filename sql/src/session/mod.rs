//! A session: the catalog of tables and views, the settings, and what each statement does.

mod settings;

pub use settings::{LOCAL_TIME_ZONE, SessionSettings};
