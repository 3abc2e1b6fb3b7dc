//! A small world: a root, an issuing authority, a server, a clock, and handshakes in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration as StdDuration;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use signet_certs_dev::{Authority, Crl, CrlProfile, KeyKind, Leaf, LeafProfile, Validity};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::tls::hello::{ClientHello, Progress, parse};
use crate::tls::{
    Editions, ListenerSources, Refusal, Source, SourceError, TlsListener, TlsOptions, Trust, TrustOptions,
    TrustWarning, VerifyFailure, observed_sync,
};

pub(super) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
pub(super) static TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
pub(super) static TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;
pub(super) static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

pub(super) fn unix(at: OffsetDateTime) -> UnixTime {
    UnixTime::since_unix_epoch(StdDuration::from_secs(at.unix_timestamp().unsigned_abs()))
}

/// A clock that moves when it is told to.
#[derive(Debug)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn at(moment: OffsetDateTime) -> Arc<Self> {
        let clock = Self(AtomicU64::new(0));
        clock.set(moment);
        Arc::new(clock)
    }

    pub(super) fn set(&self, moment: OffsetDateTime) {
        self.0.store(unix(moment).as_secs(), Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(StdDuration::from_secs(self.0.load(Relaxed))))
    }
}

/// An authority that has been there for years, so that its leaves may be old.
pub(super) fn long() -> Validity {
    Validity { not_before: datetime!(2020-01-01 0:00 UTC), not_after: datetime!(2036-01-01 0:00 UTC) }
}

pub(super) fn root(name: &str) -> Authority {
    Authority::root(name, KeyKind::P256, long()).unwrap()
}

/// Root, issuing authority and server.
pub(super) struct World {
    pub(super) root: Authority,
    pub(super) issuing: Authority,
    pub(super) server: Leaf,
}

impl World {
    pub(super) fn new() -> Self {
        Self::under("Root")
    }

    pub(super) fn under(name: &str) -> Self {
        let root = root(name);
        let issuing = root.intermediate("Issuing", KeyKind::P256, long(), 0).unwrap();
        let server = issuing.issue(&LeafProfile::localhost(days(90))).unwrap();
        Self { root, issuing, server }
    }

    pub(super) fn device(&self, name: &str) -> Leaf {
        self.issuing.issue(&LeafProfile::device(name, days(90))).unwrap()
    }

    /// The issuing authority's list.
    pub(super) fn crl(&self, number: u64, revoked: &[&Leaf]) -> Crl {
        let serials: Vec<_> = revoked.iter().map(|leaf| leaf.serial()).collect();
        self.issuing.crl(&CrlProfile::new(number, NOW, 30, &serials)).unwrap()
    }

    /// Trusts the root only, without lists.
    pub(super) fn sources(&self) -> ListenerSources {
        ListenerSources {
            certificate: Source::new("server.crt", self.server.chain_pem()),
            private_key: Source::new("server.key", self.server.key_pem()),
            client_ca: vec![Source::new("root.crt", self.root.certificate_pem())],
            crl: Vec::new(),
            crl_elsewhere: Vec::new(),
            editions: Editions::default(),
            stale_by_issuer: Vec::new(),
        }
    }

    /// Trusts root and issuing authority, with these lists.
    pub(super) fn sources_with(&self, crls: &[&Crl]) -> ListenerSources {
        let mut sources = self.sources();
        sources.client_ca.push(Source::new("issuing.crt", self.issuing.certificate_pem()));
        sources.crl = crls.iter().map(|crl| Source::new("issuing.crl", crl.pem())).collect();
        sources
    }

    pub(super) fn listener(&self) -> TlsListener {
        build(&self.sources(), &options())
    }

    /// A client that trusts the root, speaks one version and presents this leaf with its chain.
    pub(super) fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        leaf: &Leaf,
    ) -> Arc<ClientConfig> {
        Arc::new(self.client_with(version, Some((ders(&leaf.chain()), leaf.key()))))
    }

    pub(super) fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        identity: Option<(Vec<CertificateDer<'static>>, &[u8])>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.root.certificate().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Clock::at(NOW))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            // The client's own checks would keep a mismatched key from being tried.
            Some((chain, key)) => {
                let key = PrivateKeyDer::try_from(key.to_vec()).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let key = Arc::new(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        }
    }
}

pub(super) fn days(count: i64) -> Validity {
    Validity::days_from(NOW, count)
}

pub(super) fn ders(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

pub(super) fn options() -> TlsOptions {
    TlsOptions { clock: Clock::at(NOW), ..TlsOptions::default() }
}

pub(super) fn build(sources: &ListenerSources, options: &TlsOptions) -> TlsListener {
    TlsListener::build(sources, options, None, unix(NOW)).unwrap().0
}

pub(super) type Loaded = Result<(Trust, Vec<TrustWarning>), Vec<SourceError>>;

/// Loads a trust from PEM texts.
pub(super) fn load(
    client_ca: &[String],
    crls: &[String],
    options: TrustOptions,
    previous: Option<&Trust>,
) -> Loaded {
    let sources = |name: &str, texts: &[String]| -> Vec<Source> {
        texts
            .iter()
            .zip(1..)
            .map(|(text, n): (_, u32)| Source::new(format!("{name}-{n}"), text.as_str()))
            .collect()
    };
    Trust::load(&sources("ca", client_ca), (&sources("crl", crls), &[]), None, options, previous, unix(NOW))
}

/// Judges a leaf with its chain.
pub(super) fn judge(listener: &TlsListener, leaf: &Leaf) -> Result<crate::tls::Judged, VerifyFailure> {
    listener.judge(&ders(&leaf.chain()), unix(NOW))
}

/// How a handshake in memory ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) server: Result<(), rustls::Error>,
    pub(super) client: Result<(), rustls::Error>,
    pub(super) refusal: Option<Refusal>,
    pub(super) hello: Option<Box<ClientHello>>,
    pub(super) kind: Option<HandshakeKind>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) alpn: Option<Vec<u8>>,
    /// The content lengths of the records that the server sent.
    pub(super) server_records: Vec<usize>,
}

impl Outcome {
    /// The alert that the client read.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        match self.client {
            Err(rustls::Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }

    pub(super) fn failure(&self) -> Option<&VerifyFailure> {
        self.refusal.as_ref().map(|refusal| &refusal.failure)
    }

    #[track_caller]
    pub(super) fn succeeded(&self) {
        assert_eq!((&self.server, &self.client), (&Ok(()), &Ok(())));
        assert!(self.kind.is_some(), "the handshake did not end");
    }
}

/// Does a handshake, the hello chosen by as the listener does, and hands over what comes after it.
pub(super) fn handshake(listener: &TlsListener, client: &Arc<ClientConfig>) -> Outcome {
    let (mut outcome, refusal) = observed_sync(|| shake_hands(listener, client));
    outcome.refusal = refusal;
    outcome
}

pub(super) fn shake_hands(listener: &TlsListener, client: &Arc<ClientConfig>) -> Outcome {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut first = Vec::new();
    client.write_tls(&mut first).unwrap();
    let hello = match parse(&first) {
        Progress::Complete(hello) => Some(hello),
        _ => None,
    };
    let mut server = ServerConnection::new(listener.server_config(hello.as_deref())).unwrap();
    let mut outcome = Outcome {
        server: Ok(()),
        client: Ok(()),
        refusal: None,
        hello,
        kind: None,
        chain: Vec::new(),
        alpn: None,
        server_records: Vec::new(),
    };
    let mut to_server = first;
    for _ in 0..8 {
        let mut input = to_server.as_slice();
        while outcome.server.is_ok() && !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            outcome.server = server.process_new_packets().map(|_| ());
        }
        let mut to_client = Vec::new();
        while server.write_tls(&mut to_client).unwrap() > 0 {}
        outcome.server_records.extend(record_lengths(&to_client));
        let mut input = to_client.as_slice();
        while outcome.client.is_ok() && !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            outcome.client = client.process_new_packets().map(|_| ());
        }
        to_server = Vec::new();
        while client.write_tls(&mut to_server).unwrap() > 0 {}
        if outcome.client.is_err() || to_server.is_empty() {
            // An alert of the client's is still to be read.
            let mut input = to_server.as_slice();
            while outcome.server.is_ok() && !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                outcome.server = server.process_new_packets().map(|_| ());
            }
            break;
        }
    }
    if outcome.server.is_ok() && !server.is_handshaking() && !client.is_handshaking() {
        outcome.kind = server.handshake_kind();
        outcome.chain =
            server.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
        outcome.alpn = server.alpn_protocol().map(<[u8]>::to_vec);
    }
    outcome
}

fn record_lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(*high) << 8 | usize::from(*low);
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}
