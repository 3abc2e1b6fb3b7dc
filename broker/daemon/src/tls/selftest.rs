//! A handshake in memory, before a configuration is taken into use: whether the server's flight can be made
//! and a client can read and check it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::config::{Inside, TlsVersions};
use super::source::SourceProblem;
use super::version_one;
use crate::portions::give_way;

/// Flights that a handshake may take before it is given up.
const ROUNDS_MAX: usize = 8;

/// Takes the server's certificate for good if it is the very one that we configured, and checks signatures.
#[derive(Debug)]
struct Pinned {
    leaf: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.leaf {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_one::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Tries every version. A client without a certificate must read the server's whole flight and then be refused for having
/// none, or be let in where it needs none: that shows the certificate, key, suites and client authentication at work.
pub(super) fn self_test(
    server: &ServerConfig,
    versions: TlsVersions,
    inside: Inside,
    key: &CertifiedKey,
) -> Result<(), SourceProblem> {
    for version in versions.supported() {
        give_way();
        let name = match version.version {
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            _ => "TLS 1.3",
        };
        try_version(server, version, inside, key)
            .map_err(|reason| SourceProblem::SelfTest { version: name, reason })?;
    }
    Ok(())
}

fn try_version(
    server: &ServerConfig,
    version: &'static SupportedProtocolVersion,
    inside: Inside,
    key: &CertifiedKey,
) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let provider = Arc::clone(server.crypto_provider());
    let leaf = key.cert.first().ok_or("there is no certificate")?.clone();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { leaf, provider }))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(text)?;
    let mut server = ServerConnection::new(Arc::new(server.clone())).map_err(text)?;
    for _ in 0..ROUNDS_MAX {
        give_way();
        transfer(|out| client.write_tls(out), |input| server.read_tls(input))?;
        let refused = match server.process_new_packets() {
            Ok(_) => false,
            Err(Error::NoCertificatesPresented) => true,
            Err(error) => return Err(error.to_string()),
        };
        transfer(|out| server.write_tls(out), |input| client.read_tls(input))?;
        match client.process_new_packets() {
            Ok(_) if inside == Inside::Http && !client.is_handshaking() && !server.is_handshaking() => {
                return Ok(());
            }
            Ok(_) => {}
            Err(Error::AlertReceived(AlertDescription::CertificateRequired)) if refused => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("the handshake came to no end".to_owned())
}

/// Moves all that one side has to send to the other.
fn transfer(
    mut write: impl FnMut(&mut dyn std::io::Write) -> std::io::Result<usize>,
    mut read: impl FnMut(&mut dyn std::io::Read) -> std::io::Result<usize>,
) -> Result<(), String> {
    let mut bytes = Vec::new();
    while write(&mut bytes).map_err(|error| error.to_string())? > 0 {}
    let mut left = bytes.as_slice();
    while !left.is_empty() {
        if read(&mut left).map_err(|error| error.to_string())? == 0 {
            return Err("the other side takes no more".to_owned());
        }
    }
    Ok(())
}
