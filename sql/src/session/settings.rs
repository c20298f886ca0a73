//! What `SET` and `RESET` change: configuration keys of the session and what follows from them.

use std::sync::Arc;

use hurtig_graph::config::Configuration;

use super::user_functions::UserFunctions;
use crate::error::SqlError;

/// Flink's key of the session's time zone.
pub const LOCAL_TIME_ZONE: &str = "table.local-time-zone";

/// The configuration of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSettings {
    configuration: Configuration,
    time_zone: String,
    functions: Arc<UserFunctions>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            configuration: Configuration::default(),
            time_zone: "UTC".to_owned(),
            functions: Arc::default(),
        }
    }
}

impl SessionSettings {
    /// Settings of the given configuration.
    ///
    /// # Errors
    /// [`SqlError::Config`] when the time zone is not one.
    pub fn new(configuration: Configuration) -> Result<Self, SqlError> {
        let time_zone = match configuration.as_map().get(LOCAL_TIME_ZONE) {
            Some(zone) if !zone.eq_ignore_ascii_case("default") => check_time_zone(zone)?,
            _ => "UTC".to_owned(),
        };
        Ok(SessionSettings { configuration, time_zone, functions: Arc::default() })
    }

    /// The same settings with user-defined functions.
    pub fn with_functions(self, functions: Arc<UserFunctions>) -> SessionSettings {
        SessionSettings { functions, ..self }
    }

    /// The user-defined functions.
    pub fn functions(&self) -> &UserFunctions {
        &self.functions
    }

    /// The keys as set.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The session's zone (`table.local-time-zone`): an IANA name as `Europe/Berlin`, or an offset
    /// as `+02:00`. "UTC" unless set.
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// The value set for `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.configuration.as_map().get(key).map(String::as_str)
    }

    /// The value set for `key`, as `true` or `false`; `default` when it is not set.
    ///
    /// # Errors
    /// [`SqlError::Config`] when it is set to something else.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool, SqlError> {
        match self.get(key).map(str::trim) {
            None => Ok(default),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(v) => Err(SqlError::Config(format!("{key}: '{v}' is not true or false"))),
        }
    }

    /// Settings with `key` set to `value`.
    ///
    /// # Errors
    /// [`SqlError::Config`] when the value cannot be.
    pub fn with(&self, key: &str, value: &str) -> Result<SessionSettings, SqlError> {
        let mut configuration = self.configuration.clone();
        configuration.set(key, value);
        Ok(SessionSettings::new(configuration)?.with_functions(self.functions.clone()))
    }

    /// Settings without `key`.
    ///
    /// # Errors
    /// None in practice: what is left was valid before.
    pub fn without(&self, key: &str) -> Result<SessionSettings, SqlError> {
        let mut values = self.configuration.as_map().clone();
        values.remove(key);
        Ok(SessionSettings::new(Configuration::from_map(values))?.with_functions(self.functions.clone()))
    }
}

/// The canonical spelling of a zone: an IANA name, or `+hh:mm` for `GMT+h[:mm]`, `UTC+h[:mm]` and
/// plain offsets.
fn check_time_zone(zone: &str) -> Result<String, SqlError> {
    let zone = zone.trim();
    if let Ok(tz) = zone.parse::<chrono_tz::Tz>() {
        return Ok(tz.name().to_owned());
    }
    let offset = zone.strip_prefix("GMT").or_else(|| zone.strip_prefix("UTC")).unwrap_or(zone);
    parse_offset(offset).ok_or_else(|| {
        SqlError::Config(format!(
            "{LOCAL_TIME_ZONE}: '{zone}' is not a time zone: use a name as 'Europe/Berlin' or an offset as 'GMT+02:00'"
        ))
    })
}

fn parse_offset(text: &str) -> Option<String> {
    let sign = text.chars().next().filter(|c| matches!(c, '+' | '-'))?;
    let (hours, minutes) = text[1..].split_once(':').unwrap_or((&text[1..], "0"));
    let in_range = |part: &str, max: u32| {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|n| digits && *n <= max)
    };
    Some(format!("{sign}{:02}:{:02}", in_range(hours, 18)?, in_range(minutes, 59)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_checked_when_set() {
        let settings = SessionSettings::default();
        assert_eq!(settings.time_zone(), "UTC");
        let zone = |text: &str| settings.with(LOCAL_TIME_ZONE, text).map(|s| s.time_zone().to_owned());
        assert_eq!(zone("Europe/Berlin").unwrap(), "Europe/Berlin");
        assert_eq!(zone("GMT-8:00").unwrap(), "-08:00");
        assert_eq!(zone("+05:30").unwrap(), "+05:30");
        assert!(zone("Europe/Bielefeld").unwrap_err().to_string().contains("is not a time zone"));
        assert!(zone("GMT+99").is_err());
    }
}
