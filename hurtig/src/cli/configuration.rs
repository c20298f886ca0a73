//! The configuration of a command: file, `-D`, checks.

use std::path::PathBuf;

use hurtig::{Error, ErrorKind};
use hurtig_graph::config::{self, Configuration, Diagnostic, Severity, keys};

use super::{ConfigurationArgs, RemoteArgs};

/// Reads and checks the configuration. What there is to say about it goes to the log; an error in
/// it ends the command.
pub fn load(args: &ConfigurationArgs) -> anyhow::Result<Configuration> {
    let (configuration, found) = read(args)?;
    tell(&found);
    Ok(configuration)
}

/// As [`load`]; what there is to say is given back, for [`tell`].
pub fn read(args: &ConfigurationArgs) -> anyhow::Result<(Configuration, Vec<Diagnostic>)> {
    let file = match file(args)? {
        Some(path) => config::from_file(&path)?,
        None => Configuration::default(),
    };
    let defined = config::from_dynamic_properties(&args.define)?;
    // Checked one by one, so that a message is about what was written.
    let mut all = Vec::new();
    for part in [&file, &defined] {
        let found = config::check(part);
        config::first_error(&found)?;
        all.extend(found);
    }
    let merged = file.merged_with(&defined);
    config::first_error(&config::check(&merged))?;
    Ok((merged, all))
}

/// Writes findings about a configuration to the log.
pub fn tell(found: &[Diagnostic]) {
    for diagnostic in found {
        match diagnostic.severity {
            Severity::Info => tracing::info!("{diagnostic}"),
            Severity::Warning => tracing::warn!("{diagnostic}"),
            Severity::Error => {}
        }
    }
}

/// The file to read: the given one, or `config.yaml` of the configuration folder if it is there.
fn file(args: &ConfigurationArgs) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = &args.config {
        return Ok(Some(path.clone()));
    }
    let folder = ["HURTIG_CONF_DIR", "FLINK_CONF_DIR"].into_iter().find_map(std::env::var_os);
    let Some(folder) = folder else { return Ok(None) };
    let path = PathBuf::from(folder).join("config.yaml");
    Ok(path.exists().then_some(path))
}

/// `host:port` of the JobManager (of several, separated by commas), and how to connect to it.
pub fn cluster(args: &RemoteArgs) -> anyhow::Result<(String, Configuration)> {
    let configuration = load(&args.configuration)?;
    if let Some(address) = &args.cluster {
        return Ok((address.clone(), configuration));
    }
    let host = configuration.text(&keys::JOBMANAGER_ADDRESS).unwrap_or("127.0.0.1");
    let (port, _) = configuration.ports(&keys::JOBMANAGER_PORT)?.unwrap_or((0, 0));
    if port == 0 {
        let reason = "which JobManager? give --cluster host:port, or set jobmanager.rpc.port";
        return Err(Error::new(ErrorKind::Config, reason).into());
    }
    // Of several that stand in for each other, each may have its own port.
    let address = |host: &str| if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let addresses = host.split([',', ';']).map(|host| address(host.trim())).collect::<Vec<_>>().join(",");
    Ok((addresses, configuration))
}
