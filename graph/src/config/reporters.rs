//! Reporters of metrics: keys with a name in their middle, as `metrics.reporter.NAME.port`.

use super::{Configuration, Diagnostic, Severity, keys, values};
use crate::error::GraphError;

const PREFIX: &str = "metrics.reporter.";
/// The last part of the classes of Flink that have an endpoint to be scraped.
const PROMETHEUS: &str = "PrometheusReporterFactory";
const DEFAULT_PORT: u16 = 9249;

/// A reporter with an endpoint to be scraped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusReporter {
    /// As in its keys.
    pub name: String,
    /// The ports that it may take, inclusive.
    pub ports: (u16, u16),
}

/// Splits `metrics.reporter.NAME.SETTING`.
fn parts(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('.').filter(|(name, _)| !name.is_empty())
}

/// What is to be said about `key`; `None`: it is no key that has an effect here.
pub(super) fn check(key: &str, value: &str) -> Option<Vec<Diagnostic>> {
    let (_, setting) = parts(key)?;
    let finding = |severity, message: String| Diagnostic { severity, key: key.to_owned(), message };
    match setting {
        "port" if values::parse_ports(value.trim()).is_some() => Some(Vec::new()),
        "port" => {
            let reason = "is not a port or a range of ports: write '9249' or '9249-9260'";
            Some(vec![finding(Severity::Error, format!("{key}: '{value}' {reason}"))])
        }
        "factory.class" if value.trim().ends_with(PROMETHEUS) => Some(Vec::new()),
        "factory.class" => {
            let message = format!("{key} has no effect in Hurtig: of Flink's reporters there is only {PROMETHEUS}");
            Some(vec![finding(Severity::Info, message)])
        }
        _ => None,
    }
}

impl Configuration {
    /// The Prometheus reporters, by name.
    ///
    /// # Errors
    /// A port that cannot be read.
    pub fn prometheus_reporters(&self) -> Result<Vec<PrometheusReporter>, GraphError> {
        let mut names: Vec<&str> = self.as_map().keys().filter_map(|key| Some(parts(key)?.0)).collect();
        names.dedup();
        let listed = self.list(&keys::METRICS_REPORTERS);
        let mut found = Vec::new();
        for name in names {
            let class = self.as_map().get(&format!("{PREFIX}{name}.factory.class"));
            let port = self.as_map().get(&format!("{PREFIX}{name}.port"));
            let used = listed.is_empty() || listed.iter().any(|l| l == name);
            if !used || class.is_some_and(|c| !c.trim().ends_with(PROMETHEUS)) || (class.is_none() && port.is_none()) {
                continue;
            }
            let ports = match port {
                None => (DEFAULT_PORT, DEFAULT_PORT),
                Some(text) => values::parse_ports(text.trim())
                    .ok_or_else(|| GraphError::Config(format!("{PREFIX}{name}.port: '{text}' is not a port")))?,
            };
            found.push(PrometheusReporter { name: name.to_owned(), ports });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, (u16, u16))> {
        let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let found = Configuration::from_map(pairs).prometheus_reporters().unwrap();
        found.into_iter().map(|r| (r.name, r.ports)).collect()
    }

    #[test]
    fn prometheus_reporters_are_found_with_their_ports() {
        let class = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory";
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[("metrics.reporter.p.factory.class", class)]), [("p".to_owned(), (9249, 9249))]);
        assert_eq!(of(&[("metrics.reporter.p.port", "9250-9260")]), [("p".to_owned(), (9250, 9260))]);
        let push = "org.apache.flink.metrics.prometheus.PrometheusPushGatewayReporterFactory";
        assert_eq!(of(&[("metrics.reporter.p.factory.class", push), ("metrics.reporter.p.port", "1")]), []);
        let listed = [("metrics.reporters", "other"), ("metrics.reporter.p.port", "1")];
        assert_eq!(of(&listed), []);
    }

    #[test]
    fn a_port_that_cannot_be_is_an_error_and_other_reporters_say_that_they_have_no_effect() {
        assert_eq!(check("metrics.reporter.p.port", "9249-9260"), Some(Vec::new()));
        assert_eq!(check("metrics.reporter.p.port", "x").unwrap()[0].severity, Severity::Error);
        let other = "org.apache.flink.metrics.jmx.JMXReporterFactory";
        assert_eq!(check("metrics.reporter.p.factory.class", other).unwrap()[0].severity, Severity::Info);
        assert_eq!(check("metrics.reporter.p.interval", "1 s"), None, "left to the families of keys");
    }
}
