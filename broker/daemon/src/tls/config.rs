//! The TLS of one listener: read from files, checked, tried, and handed to rustls.

use std::fmt;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::VerifyFailure;
use super::crl::sha256;
use super::editions::Editions;
use super::hello::ClientHello;
use super::options::{StaleCrl, TrustOptions, X509V1};
use super::selftest::self_test;
use super::source::{Source, SourceError, SourceProblem, in_words};
use super::trust::{Trust, seconds};
use super::verifier::{DeviceVerifier, Judged, Optional};
use super::version_one;
use super::warning::TrustWarning;

/// The record sizes that RFC 6066 lets a client ask for.
const FRAGMENT_BYTES: [u16; 4] = [512, 1024, 2048, 4096];
/// rustls counts a record's header into `max_fragment_size`.
const RECORD_HEADER_BYTES: usize = 5;
/// A server certificate that ends sooner is warned of, in seconds.
const WARN_BEFORE_SECS: i64 = 14 * 86_400;

/// TLS versions of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// TLS 1.3, and TLS 1.2 for those that have nothing newer.
    #[default]
    V12AndV13,
    /// TLS 1.2 only.
    V12,
    /// TLS 1.3 only.
    V13,
}

/// What is spoken inside TLS, and so whether a client may come without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inside {
    /// MQTT: a client without a certificate is refused.
    #[default]
    Mqtt,
    /// HTTP/1.1: a client may have no certificate yet. One that it shows is judged as for MQTT.
    Http,
}

impl Inside {
    /// Protocol names answered when a client offers one of them; a client that offers none, or only others, is served
    /// without.
    const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::Mqtt => &[b"mqtt", b"x-amzn-mqtt-ca"],
            Self::Http => &[b"http/1.1"],
        }
    }
}

static V12_AND_V13: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
static V12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
static V13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl TlsVersions {
    pub(super) fn supported(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
        match self {
            Self::V12AndV13 => V12_AND_V13,
            Self::V12 => V12,
            Self::V13 => V13,
        }
    }
}

/// How a listener speaks TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Versions spoken.
    pub versions: TlsVersions,
    /// What is spoken inside.
    pub inside: Inside,
    /// How certificates are judged.
    pub trust: TrustOptions,
    /// TLS 1.3 tickets sent after each full handshake; 0 switches resumption off, TLS 1.2 included.
    pub session_tickets: u8,
    /// Sessions kept for resumption; about 1 KiB each.
    pub sessions_max: usize,
    /// The largest plaintext of a record that we send, in bytes, at least 128. A client that asks for less
    /// gets less.
    pub fragment_bytes_max: NonZeroU16,
    /// Whether the hybrid key exchange X25519MLKEM768 is offered, first in order.
    pub post_quantum: bool,
    /// The clock that handshakes are judged by.
    pub clock: Arc<dyn TimeProvider>,
}

impl TlsOptions {
    /// [`TlsOptions::sessions_max`] by default.
    pub const SESSIONS_MAX: usize = 20_000;
    const FRAGMENT_BYTES_MAX: NonZeroU16 = NonZeroU16::new(16_384).unwrap();
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            versions: TlsVersions::default(),
            inside: Inside::default(),
            trust: TrustOptions::default(),
            session_tickets: 0,
            sessions_max: Self::SESSIONS_MAX,
            fragment_bytes_max: Self::FRAGMENT_BYTES_MAX,
            post_quantum: true,
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// The files of a listener, read.
#[derive(Debug, Clone)]
pub struct ListenerSources {
    /// The server's chain, leaf first.
    pub certificate: Source,
    /// The leaf's private key.
    pub private_key: Source,
    /// Trust anchors of client certificates.
    pub client_ca: Vec<Source>,
    /// Revocation lists.
    pub crl: Vec<Source>,
    /// Revocation lists of other listeners: a newer edition of one of `crl` is used in its place.
    pub crl_elsewhere: Vec<Source>,
    /// Which editions of lists were in force before: an older one is refused.
    pub editions: Editions,
    /// What it means that the lists of single issuers are stale, by the issuer's name.
    pub stale_by_issuer: Vec<(String, StaleCrl)>,
}

impl ListenerSources {
    /// Reads the files. The private key must not be readable by everybody.
    ///
    /// # Errors
    /// One for every file that cannot be read.
    pub fn read(
        certificate: &Path,
        private_key: &Path,
        client_ca: &[PathBuf],
        crl: &[PathBuf],
    ) -> Result<Self, Vec<SourceError>> {
        let mut errors = Vec::new();
        let mut keep = |result: Result<Source, SourceError>| match result {
            Ok(source) => Some(source),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let certificate = keep(Source::read(certificate));
        let private_key = keep(Source::read_private(private_key));
        let client_ca: Vec<_> = client_ca.iter().filter_map(|path| keep(Source::read(path))).collect();
        let crl: Vec<_> = crl.iter().filter_map(|path| keep(Source::read(path))).collect();
        match (certificate, private_key, errors.is_empty()) {
            (Some(certificate), Some(private_key), true) => Ok(Self {
                certificate,
                private_key,
                client_ca,
                crl,
                crl_elsewhere: Vec::new(),
                editions: Editions::default(),
                stale_by_issuer: Vec::new(),
            }),
            _ => Err(errors),
        }
    }

    /// Names the contents: equal when no file has changed.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        let one = |sources: &[Source]| {
            let hashes: Vec<_> = sources.iter().map(|source| sha256(&[&source.bytes])).collect();
            sha256(&[hashes.as_flattened()])
        };
        sha256(&[
            &sha256(&[&self.certificate.bytes]),
            &sha256(&[&self.private_key.bytes]),
            &one(&self.client_ca),
            &one(&self.crl),
        ])
    }
}

/// The TLS of one listener, immutable: a reload builds another.
pub struct TlsListener {
    verifier: Arc<DeviceVerifier>,
    own: Variant,
    /// For clients that ask for less, ascending.
    smaller: Vec<Variant>,
    versions: TlsVersions,
    inside: Inside,
    sessions: Arc<dyn StoresServerSessions>,
    session_tickets: u8,
    certificate_hash: [u8; 32],
    certificate_not_after: i64,
    content_hash: [u8; 32],
}

impl TlsListener {
    /// Builds the TLS of a listener and tries it: a handshake in memory for each version spoken.
    ///
    /// With `previous`, the TLS in force of the same listener, older revocation lists than its are refused and
    /// its cache of verified chains is taken over. Its sessions can be resumed only if trust anchors, rules
    /// and server certificate are the same.
    ///
    /// # Errors
    /// Every problem that was found; the TLS in force stays as it is.
    pub fn build(
        sources: &ListenerSources,
        options: &TlsOptions,
        previous: Option<&Self>,
        now: UnixTime,
    ) -> Result<(Self, Vec<TrustWarning>), Vec<SourceError>> {
        let certificate_hash = sha256(&[&sources.certificate.bytes]);
        let in_force = previous.is_some_and(|previous| previous.certificate_hash == certificate_hash);
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let provider = super::provider::provider(options.post_quantum);
        let certified = load_certified_key(sources, &provider, options.trust.x509_v1).and_then(|key| {
            let not_after = check_server(&sources.certificate, &key, in_force, now, &mut warnings)?;
            Ok((key, not_after))
        });
        let in_force_trust = previous.map(Self::trust);
        let (anchors, lists, chain) =
            (&sources.client_ca, (&*sources.crl, &*sources.crl_elsewhere), Some(&sources.certificate));
        let trust = Trust::load(anchors, lists, chain, options.trust, in_force_trust.as_deref(), now);
        let trust = trust.and_then(|(mut trust, mut warnings)| {
            warnings.extend(trust.behind_published(&sources.editions));
            let mut problems = trust.behind(&sources.editions);
            if let Some(first) = sources.crl.first().or(chain) {
                problems.extend(trust.set_stale(&sources.stale_by_issuer, first));
            }
            if problems.is_empty() { Ok((trust, warnings)) } else { Err(problems) }
        });
        let (certified, trust) = match (certified, trust) {
            (Ok(certified), Ok((trust, more))) => {
                warnings.extend(more);
                (certified, Arc::new(trust))
            }
            (certified, trust) => {
                errors.extend(certified.err());
                errors.extend(trust.err().into_iter().flatten());
                return Err(errors);
            }
        };
        let (key, certificate_not_after) = certified;
        let cache = previous.map_or_else(Arc::default, |previous| Arc::clone(previous.verifier.cache()));
        let sessions = previous
            .filter(|previous| {
                in_force
                    && previous.session_tickets == options.session_tickets
                    && previous.trust().anchors_hash() == trust.anchors_hash()
            })
            .map_or_else(|| new_sessions(options), |previous| Arc::clone(&previous.sessions));
        let verifier = Arc::new(DeviceVerifier::new(trust, cache));
        let key = Arc::new(key);
        let base = server_config(provider, options, &verifier, &key, &sessions)
            .map_err(|error| vec![rustls_error(&sources.certificate, &error)])?;
        self_test(&base, options.versions, options.inside, &key)
            .map_err(|problem| vec![sources.certificate.error(problem)])?;
        let own = options.fragment_bytes_max.get();
        let smaller = FRAGMENT_BYTES.iter().filter(|bytes| **bytes < own);
        let listener = Self {
            own: Variant::new(&base, options.inside, own),
            smaller: smaller.map(|bytes| Variant::new(&base, options.inside, *bytes)).collect(),
            verifier,
            versions: options.versions,
            inside: options.inside,
            sessions,
            session_tickets: options.session_tickets,
            certificate_hash,
            certificate_not_after,
            content_hash: sources.content_hash(),
        };
        Ok((listener, warnings))
    }

    /// The configuration for a client that said this hello; without one, the listener's own.
    ///
    /// The record size is the smallest of the listener's, of what the client asked for with
    /// max_fragment_length (RFC 6066) and of what it announced with record_size_limit (RFC 8449). rustls cannot
    /// confirm either extension, and a server need not: it may always send less.
    #[must_use]
    pub fn server_config(&self, hello: Option<&ClientHello>) -> Arc<ServerConfig> {
        let limit = hello.and_then(ClientHello::fragment_bytes_max).unwrap_or(u16::MAX);
        let fitting = self.smaller.iter().rev().find(|variant| variant.fragment_bytes <= limit);
        let variant = match fitting {
            _ if self.own.fragment_bytes <= limit => &self.own,
            Some(variant) => variant,
            // Less than the smallest size is asked for by nobody who has read RFC 6066.
            None => self.smaller.first().unwrap_or(&self.own),
        };
        let only_others = hello.is_some_and(|hello| {
            !hello.alpn.is_empty()
                && !hello.alpn.iter().any(|name| self.inside.alpn().contains(&name.as_slice()))
        });
        Arc::clone(if only_others { &variant.without_alpn } else { &variant.with_alpn })
    }

    /// Judges the chain after a handshake; see [`DeviceVerifier::judge`].
    ///
    /// # Errors
    /// Why the chain is refused.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Judged, VerifyFailure> {
        self.verifier.judge(chain, now)
    }

    /// Judges a live connection again; see [`DeviceVerifier::judge_again`].
    ///
    /// # Errors
    /// Why the certificate would be refused now.
    pub fn judge_again(&self, judged: &Judged, now: UnixTime) -> Result<(), VerifyFailure> {
        self.verifier.judge_again(judged, now)
    }

    /// The trust in force.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        self.verifier.trust()
    }

    /// The verifier, for its cache and for judging without a listener.
    #[must_use]
    pub fn verifier(&self) -> &Arc<DeviceVerifier> {
        &self.verifier
    }

    /// The last second of the server certificate's validity, in Unix seconds.
    #[must_use]
    pub fn certificate_not_after(&self) -> i64 {
        self.certificate_not_after
    }

    /// [`ListenerSources::content_hash`] of what this was built from.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        self.content_hash
    }

    /// The largest plaintext of a record that is sent to a client that asked for nothing, in bytes.
    #[must_use]
    pub fn fragment_bytes_max(&self) -> u16 {
        self.own.fragment_bytes
    }
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener")
            .field("trust", &self.trust())
            .field("versions", &self.versions)
            .field("fragment_bytes_max", &self.own.fragment_bytes)
            .finish_non_exhaustive()
    }
}

fn rustls_error(source: &Source, error: &rustls::Error) -> SourceError {
    source.error(SourceProblem::Rustls { reason: error.to_string() })
}

fn new_sessions(options: &TlsOptions) -> Arc<dyn StoresServerSessions> {
    if options.session_tickets == 0 {
        Arc::new(NoServerSessionStorage {})
    } else {
        ServerSessionMemoryCache::new(options.sessions_max)
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    options: &TlsOptions,
    verifier: &Arc<DeviceVerifier>,
    key: &Arc<CertifiedKey>,
    sessions: &Arc<dyn StoresServerSessions>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier: Arc<dyn ClientCertVerifier> = match options.inside {
        Inside::Mqtt => Arc::clone(verifier) as _,
        Inside::Http => Arc::new(Optional(Arc::clone(verifier))),
    };
    let mut config = ServerConfig::builder_with_details(provider, Arc::clone(&options.clock))
        .with_protocol_versions(options.versions.supported())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.ignore_client_order = true;
    config.session_storage = Arc::clone(sessions);
    config.send_tls13_tickets = usize::from(options.session_tickets);
    config.max_tls13_tickets = usize::from(options.session_tickets);
    config.max_early_data_size = 0;
    // A session without the extended master secret could be resumed under another connection's identity
    // (RFC 7627). Without resumption there is nothing to mix up, and BearSSL has no such extension.
    config.require_ems = options.session_tickets > 0;
    Ok(config)
}

/// The configurations of one record size. All share verifier, key and sessions.
struct Variant {
    fragment_bytes: u16,
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

impl Variant {
    fn new(base: &ServerConfig, inside: Inside, fragment_bytes: u16) -> Self {
        let mut without = base.clone();
        without.max_fragment_size = Some(usize::from(fragment_bytes) + RECORD_HEADER_BYTES);
        let mut with = without.clone();
        with.alpn_protocols = inside.alpn().iter().map(|name| name.to_vec()).collect();
        Self { fragment_bytes, with_alpn: Arc::new(with), without_alpn: Arc::new(without) }
    }
}

fn load_certified_key(
    sources: &ListenerSources,
    provider: &CryptoProvider,
    x509_v1: X509V1,
) -> Result<CertifiedKey, SourceError> {
    const EXPECTED: &str = "certificate";
    let source = &sources.certificate;
    let mut chain = Vec::new();
    for section in source.sections(SectionKind::Certificate)? {
        match section.kind {
            SectionKind::Certificate => chain.push(CertificateDer::from(section.der.to_vec())),
            // One file with chain and key is common, and the key may be in both places.
            _ if section.is_key() => {}
            _ => {
                let found = section.noun();
                return Err(source.error(SourceProblem::Misplaced { found, expected: EXPECTED }));
            }
        }
    }
    if chain.is_empty() {
        return Err(source.error(SourceProblem::Nothing { expected: EXPECTED }));
    }
    let key = provider
        .key_provider
        .load_private_key(sources.private_key.private_key()?)
        .map_err(|_| sources.private_key.error(SourceProblem::KeyUnusable))?;
    let certified = CertifiedKey::new(chain, key);
    let mismatch =
        || sources.private_key.error(SourceProblem::KeyMismatch { certificate: source.file.clone() });
    // rustls does not read certificates of version 1, so their keys are compared here.
    match certified.cert.first().and_then(version_one::public_key) {
        Some(_) if x509_v1 == X509V1::Refuse => Err(source.error(SourceProblem::ServerVersionOne)),
        Some(key) if certified.key.public_key().as_ref() == Some(&key) => Ok(certified),
        Some(_) => Err(mismatch()),
        None => match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => Err(mismatch()),
            Err(error) => Err(rustls_error(source, &error)),
        },
    }
}

/// Checks the server's own certificate and returns its last second. Devices check it, not we: what they would
/// refuse is refused here, where somebody reads the message. A certificate that is in force already and has
/// expired meanwhile must not keep a new revocation list out, so then it is only warned of.
fn check_server(
    source: &Source,
    certified: &CertifiedKey,
    in_force: bool,
    now: UnixTime,
    warnings: &mut Vec<TrustWarning>,
) -> Result<i64, SourceError> {
    let mut not_after = i64::MAX;
    for (der, number) in certified.cert.iter().zip(1..) {
        let unparsable =
            |reason: String| source.error(SourceProblem::Unparsable { what: "certificate", number, reason });
        let certificate = match X509Certificate::from_der(der) {
            Ok(([], certificate)) => certificate,
            Ok(_) => return Err(unparsable("there are bytes after its end".to_owned())),
            Err(error) => return Err(unparsable(error.to_string())),
        };
        if number > 1 {
            continue;
        }
        if version_one::is_one(der) {
            warnings.push(TrustWarning::ServerVersionOne { file: source.file.clone() });
        }
        if certificate.is_ca() {
            return Err(source.error(SourceProblem::ServerIsAuthority));
        }
        let purposes = certificate.extended_key_usage().map_err(|error| unparsable(error.to_string()))?;
        if purposes.is_some_and(|eku| !eku.value.server_auth && !eku.value.any) {
            return Err(source.error(SourceProblem::ServerNotForServers));
        }
        let now = seconds(now);
        let not_before = certificate.validity().not_before.timestamp();
        not_after = certificate.validity().not_after.timestamp();
        if now < not_before && !in_force {
            let wait = in_words(not_before - now);
            return Err(source.error(SourceProblem::ServerNotYetValid { wait }));
        }
        if now > not_after && !in_force {
            return Err(source.error(SourceProblem::ServerExpired { ago: in_words(now - not_after) }));
        }
        let left_secs = not_after - now;
        if left_secs < WARN_BEFORE_SECS {
            warnings.push(TrustWarning::ServerEnds { file: source.file.clone(), left_secs });
        }
    }
    Ok(not_after)
}
