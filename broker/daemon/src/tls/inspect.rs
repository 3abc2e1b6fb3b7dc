//! Files, chains and servers looked at without a listener: what `signet doctor` is made of.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{AlertDescription, DigitallySignedStruct, Error};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::crl::KeyHash;
use super::options::{StaleCrl, TrustOptions};
use super::source::{Source, SourceError, SourceProblem};
use super::trust::{Trust, seconds};
use super::verifier::{parse, path_id};
use super::warning::TrustWarning;
use super::{VerifyFailure, Which, failure, version_one};

/// The certificates in a file, DER, in their order; keys and lists beside them are left out.
///
/// # Errors
/// When it cannot be decoded or holds none.
pub(crate) fn certificates(source: &Source) -> Result<Vec<Vec<u8>>, SourceError> {
    let sections = source.sections(SectionKind::Certificate)?;
    let found: Vec<Vec<u8>> = sections
        .into_iter()
        .filter(|section| section.kind == SectionKind::Certificate)
        .map(|section| section.der.to_vec())
        .collect();
    if found.is_empty() {
        return Err(source.error(SourceProblem::Nothing { expected: "certificate" }));
    }
    Ok(found)
}

/// The one private key in a file, ready to sign.
///
/// # Errors
/// When there is none, several, or one that cannot be used.
pub(crate) fn signing_key(source: &Source) -> Result<Arc<dyn SigningKey>, SourceError> {
    let key: PrivateKeyDer<'static> = source.private_key()?;
    let provider = super::provider::provider(false);
    provider.key_provider.load_private_key(key).map_err(|_| source.error(SourceProblem::KeyUnusable))
}

/// A chain and its key, whether or not they belong together: a server that is tried with them says what it thinks.
pub(crate) fn presented(chain: &[CertificateDer<'_>], key: Arc<dyn SigningKey>) -> CertifiedKey {
    CertifiedKey::new(chain.iter().map(|der| der.clone().into_owned()).collect(), key)
}

/// What a client may offer: everything that a listener speaks, in the same order.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    super::provider::provider(true)
}

/// [`Trust::load`] without anything in force before it. An issuer in `stale_by_issuer` that has no list is passed over: a
/// check of the configuration tells of it.
///
/// # Errors
/// As [`Trust::load`].
pub(crate) fn trust(
    client_ca: &[Source],
    crls: &[Source],
    beside: Option<&Source>,
    (options, stale_by_issuer): (TrustOptions, &[(String, StaleCrl)]),
    now: UnixTime,
) -> Result<(Trust, Vec<TrustWarning>), Vec<SourceError>> {
    let (mut trust, warnings) = Trust::load(client_ca, (crls, &[]), beside, options, None, now)?;
    if let Some(source) = client_ca.first() {
        drop(trust.set_stale(stale_by_issuer, source));
    }
    Ok((trust, warnings))
}

/// What the revocation lists of `trust` say of a path, whatever else is wrong with it. `path` is the client's certificate and
/// the authorities above it, each with the SubjectPublicKeyInfo of its signer, DER.
///
/// # Errors
/// Revoked, or of unknown standing.
pub(crate) fn check_revocation(
    trust: &Trust,
    path: &[(&CertificateDer<'_>, &[u8])],
    now: UnixTime,
) -> Result<(), VerifyFailure> {
    let ids = path.iter().enumerate().map(|(index, (certificate, issuer))| {
        let which = if index == 0 { Which::Leaf } else { Which::Authority };
        path_id(KeyHash::of(issuer), parse(certificate)?.raw_serial(), which)
    });
    let ids: Result<Vec<_>, VerifyFailure> = ids.collect();
    trust.check_revocation(&ids?, seconds(now))
}

/// Whether a server's signature in a handshake of TLS 1.2 fits its certificate, which may be of X.509 version 1.
///
/// # Errors
/// When it does not.
pub(crate) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    version_one::verify_tls12_signature(
        message,
        certificate,
        dss,
        &provider.signature_verification_algorithms,
    )
}

/// [`verify_tls12_signature`] for TLS 1.3.
///
/// # Errors
/// When it does not.
pub(crate) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    version_one::verify_tls13_signature(
        message,
        certificate,
        dss,
        &provider.signature_verification_algorithms,
    )
}

/// The name of an alert in the standard, with its number: `unknown_ca(48)`.
pub(crate) fn alert_text(alert: AlertDescription) -> String {
    format!("{}({})", failure::alert_name(alert), u8::from(alert))
}
