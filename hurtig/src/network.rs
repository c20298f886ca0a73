//! Addresses to listen on. Loopback is the rule; anything else must be asked for.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use hurtig_graph::ErrorKind;
use hurtig_graph::config::ConfigOption;
use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// The address of an interface by its name or number, as the value of `option`.
///
/// # Errors
/// A host that does not resolve, and one that is not loopback unless `secured`: by mutual TLS, or by the
/// word of whoever runs it.
pub fn bind_address(host: &str, option: &ConfigOption, secured: bool) -> Result<IpAddr> {
    let wrong = |reason: String| Error::new(ErrorKind::Config, format!("{}: {reason}", option.key));
    let mut found = (host, 0).to_socket_addrs().map_err(|e| wrong(format!("cannot resolve '{host}': {e}")))?;
    let address = found.next().ok_or_else(|| wrong(format!("'{host}' has no address")))?.ip();
    if address.is_loopback() || secured {
        return Ok(address);
    }
    Err(wrong(format!(
        "refusing to listen on {host}: it is not a loopback address, and neither TLS nor authentication is \
         configured; use 127.0.0.1, set security.ssl.internal.enabled with a keystore and a truststore, or give \
         --insecure-network where the network is trusted"
    )))
}

/// Listens on the first free port from `ports.0` to `ports.1`; 0 is any.
///
/// # Errors
/// When all are in use, naming them.
pub async fn listen(address: IpAddr, ports: (u16, u16), key: &str) -> Result<TcpListener> {
    let mut last = None;
    for port in ports.0..=ports.1 {
        match TcpListener::bind(SocketAddr::new(address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let reason = last.map_or_else(|| "the range is empty".to_owned(), |e| e.to_string());
    let shown = if ports.0 == ports.1 { ports.0.to_string() } else { format!("{}-{}", ports.0, ports.1) };
    Err(Error::new(
        ErrorKind::Config,
        format!("cannot listen on {address}, port {shown}: {reason}; free it, or set {key} to another (0: any)"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_graph::config::keys;

    #[test]
    fn only_loopback_is_allowed_unless_asked_for() {
        let option = &keys::JOBMANAGER_BIND_HOST;
        assert!(bind_address("127.0.0.1", option, false).unwrap().is_loopback());
        assert!(bind_address("localhost", option, false).unwrap().is_loopback());
        let error = bind_address("0.0.0.0", option, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.starts_with("jobmanager.bind-host: refusing to listen on 0.0.0.0"), "{text}");
        assert!(text.contains("--insecure-network"), "{text}");
        assert!(bind_address("0.0.0.0", option, true).is_ok());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_key_and_the_next_of_a_range_is_taken() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let first = listen(loopback, (0, 0), keys::JOBMANAGER_PORT.key).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen(loopback, (port, port), keys::JOBMANAGER_PORT.key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains(&format!("port {port}")) && text.contains("jobmanager.rpc.port"), "{text}");
    }
}
