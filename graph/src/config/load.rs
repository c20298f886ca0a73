//! Reading `config.yaml` (nested or flat keys, as Flink 2.x) and `-D key=value`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_yaml_ng::Value;

use super::Configuration;
use crate::error::GraphError;

/// Reads the text of a `config.yaml`. Nested maps are joined by dots, flat dotted keys are as good;
/// lists become `a;b`. `origin` names the text in errors.
///
/// # Errors
/// Text that is not YAML, a doubled key, a key without a value.
pub fn from_yaml(text: &str, origin: &str) -> Result<Configuration, GraphError> {
    let root: Value = serde_yaml_ng::from_str(text)
        .map_err(|e| GraphError::Config(format!("{origin} is not valid YAML: {e}; write 'key: value' lines")))?;
    let mut values = BTreeMap::new();
    match root {
        // An empty file.
        Value::Null => {}
        Value::Mapping(_) => {
            flatten("", &root, &mut values).map_err(|e| GraphError::Config(format!("{origin}: {e}")))?
        }
        _ => {
            return Err(GraphError::Config(format!("{origin}: expected 'key: value' lines at the top level")));
        }
    }
    Ok(Configuration::from_map(values))
}

/// Reads the file at `path` by [`from_yaml`].
///
/// # Errors
/// Also when the file cannot be read.
pub fn from_file(path: &Path) -> Result<Configuration, GraphError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| GraphError::Config(format!("cannot read the configuration file {shown}: {e}")))?;
    from_yaml(&text, &shown.to_string())
}

/// Reads the values of `-D` arguments: `key=value`; a bare `key` is `true`.
///
/// # Errors
/// An argument without a key.
pub fn from_dynamic_properties<I, S>(arguments: I) -> Result<Configuration, GraphError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let mut configuration = Configuration::default();
    for argument in arguments {
        let argument = argument.as_ref();
        let (key, value) = argument.split_once('=').unwrap_or((argument, "true"));
        if key.trim().is_empty() {
            return Err(GraphError::Config(format!("-D {argument}: the key is missing: write -D key=value")));
        }
        configuration.set(key.trim(), value.trim());
    }
    Ok(configuration)
}

fn flatten(prefix: &str, value: &Value, values: &mut BTreeMap<String, String>) -> Result<(), String> {
    let Value::Mapping(mapping) = value else {
        let text = scalar(prefix, value)?;
        return match values.insert(prefix.to_owned(), text) {
            None => Ok(()),
            Some(_) => Err(format!("{prefix} is set twice, once nested and once flat: keep one")),
        };
    };
    for (key, value) in mapping {
        let key = scalar(prefix, key)?;
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        flatten(&path, value, values)?;
    }
    Ok(())
}

fn scalar(path: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Err(format!("{path} has no value: give one or leave the key out")),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Number(n) => Ok(n.to_string()),
        Value::String(s) => Ok(s.clone()),
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().map(|i| scalar(path, i)).collect::<Result<_, _>>()?;
            Ok(items.join(";"))
        }
        Value::Mapping(_) => Err(format!("{path}: a map cannot be an item of a list or a key")),
        Value::Tagged(tagged) => scalar(path, &tagged.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn nested_flat_quoted_and_listed_values_are_read() {
        let c = from_yaml(
            "taskmanager:\n  numberOfTaskSlots: \"2\"\n  memory.process.size: 1728m\n\
             execution.checkpointing.interval: 15000\n\
             state.backend.local-recovery: true\n\
             restart-strategy: exponential-delay\n\
             restart-strategy.exponential-delay.jitter-factor: 0.25\n\
             metrics.reporters: [a, b]\n",
            "config.yaml",
        )
        .unwrap();
        assert_eq!(c.int(&keys::TASK_SLOTS).unwrap(), Some(2));
        assert_eq!(c.memory_bytes(&keys::TASKMANAGER_MEMORY_PROCESS).unwrap(), Some(1728 << 20));
        assert_eq!(c.duration_ms(&keys::CHECKPOINTING_INTERVAL).unwrap(), Some(15_000));
        assert_eq!(c.bool(&keys::RECOVERY_FROM_LOCAL).unwrap(), Some(true));
        assert_eq!(c.choice(&keys::RESTART_STRATEGY).unwrap(), Some("exponential-delay"));
        assert_eq!(c.float(&keys::RESTART_EXPONENTIAL_JITTER).unwrap(), Some(0.25));
        assert_eq!(c.list(&keys::METRICS_REPORTERS), ["a", "b"]);
    }

    #[test]
    fn an_empty_file_is_an_empty_configuration() {
        assert_eq!(from_yaml("# nothing\n", "config.yaml").unwrap(), Configuration::default());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, part) in [
            ("a: b: c", "config.yaml is not valid YAML"),
            ("- a", "expected 'key: value' lines"),
            ("rest:\n  port:\n", "config.yaml: rest.port has no value"),
            ("a: 1\na: 2\n", "config.yaml is not valid YAML"),
            ("a:\n  b: 1\na.b: 2\n", "config.yaml: a.b is set twice"),
        ] {
            let error = from_yaml(text, "config.yaml").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn dynamic_properties_are_read() {
        let c = from_dynamic_properties(["parallelism.default=4", "a.b=c=d", "flag"]).unwrap();
        let pairs: Vec<_> = c.as_map().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a.b", "c=d"), ("flag", "true"), ("parallelism.default", "4")]);
        assert!(from_dynamic_properties(["=x"]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = from_file(Path::new("/nowhere/config.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the configuration file /nowhere/config.yaml"), "{error}");
    }
}
