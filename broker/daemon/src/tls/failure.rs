//! The one record that a failed handshake leaves: who, what was presented, why, which alert, and what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, ProtocolVersion};
use serde::Serialize;
use signet_identity::{CertificateSummary, IdentityError, describe};

use super::cause::FailureCause;
use super::hello::{ClientHello, NotTls, Progress};
use super::observe::Refusal;
use super::{VerifyFailure, Which};

/// The longest reason in a record, in characters.
const REASON_CHARS_MAX: usize = 512;

/// Who sent an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// We.
    Sent,
    /// The client.
    Received,
}

/// An alert, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertShown {
    /// Who sent it.
    pub direction: Direction,
    /// Its number (RFC 8446, 6).
    pub code: u8,
    /// Its name in the standard.
    pub name: &'static str,
}

impl AlertShown {
    fn new(direction: Direction, alert: AlertDescription) -> Self {
        Self { direction, code: alert.into(), name: alert_name(alert) }
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// rustls refused.
    Tls(&'a Error),
    /// The connection failed, or tokio-rustls wrapped an error of rustls.
    Io(&'a io::Error),
    /// The deadline passed.
    TimedOut {
        /// After how long.
        after: Duration,
    },
    /// The certificate is good but gives no name that may be used: nothing was sent.
    NoName {
        /// Why.
        error: &'a IdentityError,
        /// The client's own certificate, DER.
        leaf: &'a [u8],
    },
    /// The handshake succeeded, and the judgement after it refused: nothing was sent.
    Judged {
        /// Why.
        failure: &'a VerifyFailure,
        /// The client's own certificate, DER; empty when there is none.
        leaf: &'a [u8],
    },
}

/// What is known of a handshake that failed.
#[derive(Debug, Clone, Copy)]
pub struct FailureContext<'a> {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The client.
    pub peer: SocketAddr,
    /// The listener, as it is called in the configuration.
    pub listener: &'a str,
    /// What the first bytes were.
    pub hello: &'a Progress,
    /// Whether any byte came from the client.
    pub received: bool,
    /// Whether our certificate was sent before the end.
    pub flight_sent: bool,
    /// The largest plaintext of a record that this client was sent, in bytes.
    pub fragment_bytes_max: u16,
    /// The version agreed upon, if it came to that.
    pub version: Option<ProtocolVersion>,
    /// What the verifier refused; see [`observed`](super::observed).
    pub refusal: Option<&'a Refusal>,
}

/// The certificate that a failed client presented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateShown {
    /// The subject, escaped.
    pub subject: String,
    /// The issuer, escaped.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// First and last second of the validity, Unix seconds.
    pub validity: Option<(i64, i64)>,
    /// The SHA-256 of the certificate in hexadecimal.
    pub sha256: String,
}

impl From<&CertificateSummary> for CertificateShown {
    fn from(summary: &CertificateSummary) -> Self {
        Self {
            subject: summary.subject.clone(),
            issuer: summary.issuer.clone(),
            serial: summary.serial.clone(),
            validity: summary.validity,
            sha256: summary.certificate.to_string(),
        }
    }
}

/// The one record of a failed handshake. All texts are on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRecord {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The client's address and port.
    pub peer: SocketAddr,
    /// The listener.
    pub listener: String,
    /// The server name that the client asked for.
    pub sni: Option<String>,
    /// The TLS version agreed upon, or the newest offered when it did not come to that.
    pub version: Option<&'static str>,
    /// Distinguishes client programs: hexadecimal digits that are equal for equal programs.
    pub client: Option<String>,
    /// The client's certificate, if it came to that.
    pub certificate: Option<CertificateShown>,
    /// Why, as operators count it.
    pub cause: FailureCause,
    /// Why, in detail.
    pub reason: String,
    /// The alert sent or received.
    pub alert: Option<AlertShown>,
    /// What to do.
    pub hint: &'static str,
}

impl FailureRecord {
    /// Classifies a failed handshake.
    #[must_use]
    pub fn new(context: &FailureContext<'_>, ended: Ended<'_>) -> Self {
        let hello = match context.hello {
            Progress::Complete(hello) => Some(hello.as_ref()),
            _ => None,
        };
        let found = classify(context, ended);
        let judged = match ended {
            Ended::Judged { leaf, .. } | Ended::NoName { leaf, .. } if !leaf.is_empty() => {
                Some(describe(leaf))
            }
            _ => None,
        };
        let certificate = context.refusal.map(|refusal| &refusal.leaf).or(judged.as_ref());
        let reason = found.reason.chars().flat_map(printable).take(REASON_CHARS_MAX).collect();
        Self {
            at_ms: context.at_ms,
            peer: context.peer,
            listener: context.listener.to_owned(),
            sni: hello.and_then(|hello| hello.sni.clone()),
            version: context
                .version
                .and_then(version_name)
                .or_else(|| hello.map(ClientHello::newest_version)),
            client: hello.map(|hello| hello.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()),
            certificate: certificate.map(CertificateShown::from),
            cause: found.cause,
            reason,
            alert: found.alert,
            hint: found.cause.hint(),
        }
    }
}

impl fmt::Display for FailureRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake failed: peer={} listener={} ", self.peer, self.listener)?;
        write!(f, "cause={} reason=\"{}\"", self.cause.metric_label(), self.reason)?;
        if let Some(certificate) = &self.certificate {
            write!(f, " subject=\"{}\" issuer=\"{}\"", certificate.subject, certificate.issuer)?;
            write!(f, " serial={}", certificate.serial)?;
        }
        if let Some(version) = self.version {
            write!(f, " version=\"{version}\"")?;
        }
        if let Some(sni) = &self.sni {
            write!(f, " sni={sni}")?;
        }
        if let Some(alert) = &self.alert {
            let way = match alert.direction {
                Direction::Sent => "sent",
                Direction::Received => "received",
            };
            write!(f, " alert={way}:{}({})", alert.name, alert.code)?;
        }
        write!(f, " hint=\"{}\"", self.hint)
    }
}

/// Keeps a reason on one line and its quotes apart from the record's own.
fn printable(c: char) -> impl Iterator<Item = char> {
    let plain = c == '\'' || (!c.is_control() && c.is_ascii() && c != '"' && c != '\\');
    let escaped = (!plain && c != '"').then(|| c.escape_default());
    let kept = if c == '"' { Some('\'') } else { plain.then_some(c) };
    kept.into_iter().chain(escaped.into_iter().flatten())
}

struct Found {
    cause: FailureCause,
    reason: String,
    alert: Option<AlertShown>,
}

impl Found {
    fn new(cause: FailureCause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into(), alert: None }
    }

    fn sent(mut self, alert: AlertDescription) -> Self {
        self.alert = Some(AlertShown::new(Direction::Sent, alert));
        self
    }
}

fn classify(context: &FailureContext<'_>, ended: Ended<'_>) -> Found {
    if let Progress::NotTls(kind) = context.hello {
        let (cause, what) = match kind {
            NotTls::Mqtt => (FailureCause::PlainMqtt, "an MQTT CONNECT without TLS"),
            NotTls::Http => (FailureCause::PlainHttp, "an HTTP request without TLS"),
            NotTls::Other => (FailureCause::NotTls, "bytes that are not TLS"),
        };
        return Found::new(cause, format!("the first bytes are {what}"));
    }
    match ended {
        Ended::Judged { failure, .. } => {
            Found::new(cause_of(failure), format!("after the handshake: {failure}"))
        }
        Ended::NoName { error, .. } => Found::new(FailureCause::NoUsableName, error.to_string()),
        Ended::TimedOut { after } => {
            let so_far = match (context.received, context.flight_sent) {
                (false, _) => "the client sent nothing",
                (true, false) => "the client's hello was not complete",
                (true, true) => "our certificate was sent, and the client's answer is missing",
            };
            Found::new(FailureCause::TimedOut, format!("after {} ms {so_far}", after.as_millis()))
        }
        Ended::Tls(error) => classify_tls(context, error),
        Ended::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => classify_tls(context, error),
            None => classify_io(context, error),
        },
    }
}

fn classify_io(context: &FailureContext<'_>, error: &io::Error) -> Found {
    use io::ErrorKind as K;
    match error.kind() {
        K::TimedOut => Found::new(FailureCause::TimedOut, error.to_string()),
        K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => closed(context),
        _ => Found::new(FailureCause::Network, error.to_string()),
    }
}

/// The client went away without an alert, which says nothing of why. Only one that asked for small records, got larger ones
/// than the smallest, and left when they came, most probably could not take them: it has no other way to say so.
fn closed(context: &FailureContext<'_>) -> Found {
    const SMALLEST_ASKED_FOR: u16 = 512;
    if !context.received {
        return Found::new(FailureCause::Silent, "the client closed the connection before it sent anything");
    }
    if !context.flight_sent {
        return Found::new(
            FailureCause::PeerClosed,
            "the client closed the connection in the middle of its hello",
        );
    }
    let largest = context.fragment_bytes_max;
    let reason = format!(
        "the client closed the connection without an alert when our certificate came, in records of up to {largest} bytes"
    );
    let asked_for = match context.hello {
        Progress::Complete(hello) => hello.fragment_bytes_max(),
        _ => None,
    };
    match asked_for {
        Some(asked_for) if largest > SMALLEST_ASKED_FOR => {
            let reason = format!("{reason}; its hello asked for at most {asked_for}, as small devices do");
            Found::new(FailureCause::RecordTooLarge, reason)
        }
        _ => Found::new(FailureCause::Vanished, reason),
    }
}

fn classify_tls(context: &FailureContext<'_>, error: &Error) -> Found {
    if let Some(refusal) = context.refusal {
        let alert = AlertDescription::from(refusal.failure.certificate_error());
        return Found::new(cause_of(&refusal.failure), refusal.failure.to_string()).sent(alert);
    }
    let found = |cause| Found::new(cause, error.to_string());
    match error {
        Error::AlertReceived(alert) => {
            let (cause, reason) = received(*alert);
            let reason = format!("the client sent the alert {}: {reason}", alert_name(*alert));
            Found { cause, reason, alert: Some(AlertShown::new(Direction::Received, *alert)) }
        }
        Error::NoCertificatesPresented => {
            Found::new(FailureCause::NoCertificate, "the client sent no certificate")
                .sent(AlertDescription::CertificateRequired)
        }
        Error::PeerSentOversizedRecord => {
            Found::new(FailureCause::RecordTooLarge, "the client sent a record larger than TLS allows")
                .sent(AlertDescription::RecordOverflow)
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            found(FailureCause::NotTheKeyHolder).sent(AlertDescription::DecryptError)
        }
        Error::InvalidCertificate(reason) => {
            found(FailureCause::CertificateUnusable).sent(AlertDescription::from(reason.clone()))
        }
        Error::PeerIncompatible(_) => {
            let old = match context.hello {
                Progress::Complete(hello) => matches!(hello.newest_version(), "TLS 1.0" | "TLS 1.1"),
                _ => false,
            };
            let alert =
                if old { AlertDescription::ProtocolVersion } else { AlertDescription::HandshakeFailure };
            found(FailureCause::NothingInCommon).sent(alert)
        }
        Error::NoApplicationProtocol => {
            found(FailureCause::NothingInCommon).sent(AlertDescription::NoApplicationProtocol)
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => found(FailureCause::NotTls),
        Error::InvalidMessage(_) => found(FailureCause::Protocol).sent(AlertDescription::DecodeError),
        Error::DecryptError => found(FailureCause::Protocol).sent(AlertDescription::BadRecordMac),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => found(FailureCause::Protocol),
        _ => found(FailureCause::Internal),
    }
}

fn cause_of(failure: &VerifyFailure) -> FailureCause {
    use VerifyFailure as V;
    match failure {
        // An expired authority is ours to renew; to the device's owner it is an authority not trusted.
        V::Expired { which: Which::Authority, .. } | V::NotYetValid { which: Which::Authority, .. } => {
            FailureCause::CertificateExpired
        }
        V::Expired { .. } => FailureCause::CertificateExpired,
        V::NotYetValid { .. } => FailureCause::CertificateNotYetValid,
        V::Revoked { .. } => FailureCause::CertificateRevoked,
        V::RefusedBefore { .. } => FailureCause::RefusedBefore,
        V::UnknownIssuer { .. }
        | V::VersionOneBelowIntermediate { .. }
        | V::NamesakeIssuer { .. }
        | V::AnchorRemoved => FailureCause::UnknownDeviceCertificate,
        V::WrongPurpose | V::MissingPurpose | V::WrongKeyUsage => FailureCause::CertificatePurpose,
        V::VersionOne => FailureCause::CertificateVersionOne,
        V::CrlStale { .. } | V::CrlMissing { .. } => FailureCause::RevocationUnknown,
        V::NotTheKeyHolder => FailureCause::NotTheKeyHolder,
        V::NoCertificate => FailureCause::NoCertificate,
        V::TooManyCertificates { .. }
        | V::ChainTooLong { .. }
        | V::Unparsable { .. }
        | V::KeyNotAccepted { .. }
        | V::SignatureNotAccepted { .. }
        | V::ChainRules { .. } => FailureCause::CertificateUnusable,
    }
}

/// What an alert from the client means. A client sends one about a certificate only about ours.
fn received(alert: AlertDescription) -> (FailureCause, &'static str) {
    use AlertDescription as A;
    match alert {
        A::CertificateExpired => {
            (FailureCause::DeviceClock, "to the device, our certificate is outside its validity")
        }
        // mbedTLS says this of a certificate that is not yet valid, when its clock stands at 1970.
        A::CertificateUnknown => (
            FailureCause::DeviceClock,
            "the device refused our certificate; mbedTLS says so of one that is not yet valid by its clock",
        ),
        A::UnknownCA => {
            (FailureCause::WrongRoot, "the device does not know the authority of our certificate")
        }
        A::BadCertificate => (
            FailureCause::DeviceRefusedUs,
            "the device refused our certificate: another name than it connects to, not yet valid by its clock (OpenSSL), or damaged",
        ),
        A::CertificateRevoked => (FailureCause::DeviceRefusedUs, "to the device, our certificate is revoked"),
        A::UnsupportedCertificate => {
            (FailureCause::DeviceRefusedUs, "the device cannot use our certificate's kind, key or usage")
        }
        A::AccessDenied => (FailureCause::DeviceRefusedUs, "the device does not want to talk to us"),
        A::RecordOverflow => {
            (FailureCause::RecordTooLarge, "a record of ours is larger than the device takes")
        }
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity | A::NoApplicationProtocol => {
            (FailureCause::NothingInCommon, "the device finds nothing in common with what we offer")
        }
        A::CloseNotify | A::UserCanceled => (FailureCause::PeerClosed, "the device gave the handshake up"),
        A::InternalError => {
            (FailureCause::PeerClosed, "the device has a problem of its own, often too little memory")
        }
        _ => (FailureCause::Protocol, "the device could not make sense of what it received"),
    }
}

fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
        _ => None,
    }
}

pub(super) fn alert_name(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::RecordOverflow => "record_overflow",
        A::HandshakeFailure => "handshake_failure",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::NoRenegotiation => "no_renegotiation",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::UnrecognisedName => "unrecognized_name",
        A::BadCertificateStatusResponse => "bad_certificate_status_response",
        A::UnknownPSKIdentity => "unknown_psk_identity",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        _ => "unknown",
    }
}
