//! Mutual TLS of the connections between processes.
//!
//! Both sides show a certificate, and each must come from one of the authorities in the trust store.
//! Host names are not compared, as in Flink's internal connections: pods change their addresses, and
//! who has a certificate of the cluster's authority belongs to the cluster.

use std::sync::Arc;

use hurtig_graph::config::TlsFiles;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

/// What a server needs to refuse whoever has no certificate of a trusted authority.
pub fn server(files: &TlsFiles) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&files.identity, &files.identity))
        .client_ca_root(Certificate::from_pem(&files.authorities))
}

/// Where to connect to: `address` is `host:port`.
///
/// # Errors
/// An address or certificates that cannot be read.
pub fn endpoint(address: &str, files: Option<&TlsFiles>) -> Result<Endpoint, String> {
    let scheme = if files.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|e| format!("'{address}' is not an address (host:port): {e}"))?;
    let Some(files) = files else { return Ok(endpoint) };
    let config = ClientTlsConfig::new().identity(Identity::from_pem(&files.identity, &files.identity));
    let verifier = Arc::new(ChainVerifier::new(&files.authorities)?);
    endpoint
        .tls_config_with_verifier(config, verifier)
        .map_err(|e| format!("the certificates of this process cannot be used: {}", causes(&e)))
}

/// What failed and, after it, each cause: a refused certificate is named only by the innermost.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Accepts a server whose certificate chain leads to a trusted authority.
#[derive(Debug)]
struct ChainVerifier {
    authorities: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ChainVerifier {
    fn new(pem: &[u8]) -> Result<ChainVerifier, String> {
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| format!("the trust store is not PEM: {e:?}"))?;
            authorities.add(certificate).map_err(|e| format!("the trust store has an unusable certificate: {e}"))?;
        }
        Ok(ChainVerifier { authorities, provider: Arc::new(aws_lc_rs::default_provider()) })
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.authorities,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
