//! Why handshakes fail, as operators count it, and what to do about each.

use serde::Serialize;

/// Why a handshake failed, as operators count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The device holds our certificate for expired or not yet valid: its clock is wrong.
    DeviceClock,
    /// The device does not trust our certificate's authority: it has another root.
    WrongRoot,
    /// We do not know the authority of the device's certificate.
    UnknownDeviceCertificate,
    /// The handshake did not end in time.
    TimedOut,
    /// A record was larger than its reader takes.
    RecordTooLarge,
    /// The client sent no certificate.
    NoCertificate,
    /// The client's certificate has expired.
    CertificateExpired,
    /// The client's certificate is not yet valid.
    CertificateNotYetValid,
    /// The client's certificate is revoked.
    CertificateRevoked,
    /// The client's certificate was refused again and again of late, and is refused without a further look.
    RefusedBefore,
    /// The client's certificate is not for this purpose.
    CertificatePurpose,
    /// The client's certificate or chain is malformed, too long, or of a kind not accepted.
    CertificateUnusable,
    /// The client's certificate is of X.509 version 1, which the listener refuses.
    CertificateVersionOne,
    /// The standing of the client's certificate is unknown: its issuer's list is stale or missing.
    RevocationUnknown,
    /// The client's certificate is good but gives no name that may be used.
    NoUsableName,
    /// The client could not show that it has the key of its certificate.
    NotTheKeyHolder,
    /// The device refused our certificate for another reason.
    DeviceRefusedUs,
    /// Client and listener have no version, suite, group or signature in common.
    NothingInCommon,
    /// MQTT without TLS on the TLS port.
    PlainMqtt,
    /// HTTP without TLS on the TLS port.
    PlainHttp,
    /// Neither TLS nor anything known.
    NotTls,
    /// The client broke the TLS protocol.
    Protocol,
    /// The client went away before it said anything, as port checks do.
    Silent,
    /// The client went away without an alert when our certificate came.
    Vanished,
    /// The client went away in the middle.
    PeerClosed,
    /// The network failed.
    Network,
    /// The fault is ours.
    Internal,
}

impl FailureCause {
    /// Every cause, in the order of `index`.
    pub const ALL: [Self; 27] = [
        Self::DeviceClock,
        Self::WrongRoot,
        Self::UnknownDeviceCertificate,
        Self::TimedOut,
        Self::RecordTooLarge,
        Self::NoCertificate,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificateRevoked,
        Self::RefusedBefore,
        Self::CertificatePurpose,
        Self::CertificateUnusable,
        Self::CertificateVersionOne,
        Self::RevocationUnknown,
        Self::NoUsableName,
        Self::NotTheKeyHolder,
        Self::DeviceRefusedUs,
        Self::NothingInCommon,
        Self::PlainMqtt,
        Self::PlainHttp,
        Self::NotTls,
        Self::Protocol,
        Self::Silent,
        Self::Vanished,
        Self::PeerClosed,
        Self::Network,
        Self::Internal,
    ];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// A short label from a closed set, for metrics.
    #[must_use]
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::DeviceClock => "device_clock",
            Self::WrongRoot => "wrong_root",
            Self::UnknownDeviceCertificate => "unknown_device_certificate",
            Self::TimedOut => "timed_out",
            Self::RecordTooLarge => "record_too_large",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateRevoked => "certificate_revoked",
            Self::RefusedBefore => "refused_before",
            Self::CertificatePurpose => "certificate_purpose",
            Self::CertificateUnusable => "certificate_unusable",
            Self::CertificateVersionOne => "certificate_version_one",
            Self::RevocationUnknown => "revocation_unknown",
            Self::NoUsableName => "no_usable_name",
            Self::NotTheKeyHolder => "not_the_key_holder",
            Self::DeviceRefusedUs => "device_refused_us",
            Self::NothingInCommon => "nothing_in_common",
            Self::PlainMqtt => "plain_mqtt",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Protocol => "protocol",
            Self::Silent => "silent",
            Self::Vanished => "vanished",
            Self::PeerClosed => "peer_closed",
            Self::Network => "network",
            Self::Internal => "internal",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::DeviceClock => {
                "The device's clock is wrong: it holds our certificate for expired or not yet valid. Let it set its clock \
                 (SNTP) before it connects; if many devices say so, look at the end of the server certificate."
            }
            Self::WrongRoot => {
                "The device has another root than the one above our server certificate. Give it the root of our chain, and \
                 see that `certificate` holds the intermediates after the server's own certificate."
            }
            Self::UnknownDeviceCertificate => {
                "The device's certificate comes from an authority that is not in client-ca, or the device leaves its \
                 intermediate out. Add that authority to client-ca, or have the device send its chain."
            }
            Self::TimedOut => {
                "The handshake did not end in time: a slow or lossy link, or a device that computes slowly. Raise \
                 handshake-timeout, use P-256 instead of RSA, and hand out short chains."
            }
            Self::RecordTooLarge => {
                "A record was larger than its reader's buffer, or split where its reader cannot join: set \
                 max-fragment-size for this listener to what the device takes (512 or 1024 for BearSSL; Mbed TLS 2 wants \
                 our part of the handshake in one record, 2048), or enlarge the device's TLS input buffer. A small device that \
                 hung up without an alert may also have refused our certificate silently, as BearSSL does: look at its \
                 root, its clock and the name it connects to."
            }
            Self::NoCertificate => {
                "The client sent no certificate. Configure its certificate and key; some clients send none when the \
                 key does not fit or no offered authority matches."
            }
            Self::CertificateExpired => {
                "The device's certificate has expired. Issue a new one; if it should be valid, compare this machine's clock."
            }
            Self::CertificateNotYetValid => {
                "The device's certificate is not yet valid: the clock of the authority that issued it, or of this machine, \
                 is wrong."
            }
            Self::CertificateRevoked => {
                "The device's certificate is revoked. If the device is good, issue it another one; if not, this is as it \
                 should be."
            }
            Self::RefusedBefore => {
                "The device keeps coming with a certificate that is refused, so the answers are held back. Earlier records and \
                 `signet device show` say why it is refused; once that is changed it gets in at once."
            }
            Self::CertificatePurpose => {
                "The device's certificate is not for client authentication. Issue it with the extended key usage \
                 clientAuth; for secure elements without one, set require-client-auth-eku = false."
            }
            Self::CertificateUnusable => {
                "The device's certificate or chain cannot be used: see the reason. Issue it with a P-256 key, and send leaf \
                 and intermediate only."
            }
            Self::CertificateVersionOne => {
                "The device's certificate is of X.509 version 1, as `openssl x509 -req` of OpenSSL 3.0 makes without \
                 -extfile. Issue it anew with -extfile <(printf 'extendedKeyUsage=clientAuth'); the key can stay. Or \
                 accept it: set x509-v1 = \"accept\" and require-client-auth-eku = false for this listener."
            }
            Self::RevocationUnknown => {
                "The revocation list of the certificate's issuer is stale or missing. Put a current list in place; \
                 crl-stale decides what happens until then."
            }
            Self::NoUsableName => {
                "The certificate gives no name that may be used. Issue one with exactly one common name of letters, digits and \
                 . _ : - (or what `identity` of the listener asks for)."
            }
            Self::NotTheKeyHolder => {
                "The client presented a certificate whose private key it does not have. On a device: certificate and key \
                 do not belong together. Otherwise somebody tries another's certificate."
            }
            Self::DeviceRefusedUs => {
                "The device refused our certificate. See that its names cover what the device connects to (DNS or IP), that \
                 it has the extended key usage serverAuth, and that the device knows its algorithms."
            }
            Self::NothingInCommon => {
                "Client and listener share no TLS version, cipher suite, key exchange or signature. TLS 1.2 with ECDHE and \
                 AES-GCM or ChaCha20 is the least."
            }
            Self::PlainMqtt => {
                "The client speaks MQTT without TLS to the TLS port. Switch TLS on in the client; there is no plain port."
            }
            Self::PlainHttp => "A browser or HTTP client came to the MQTT port.",
            Self::NotTls => {
                "Something that is not TLS came to this port: a scanner, or a client with another protocol."
            }
            Self::Protocol => {
                "The client broke the TLS protocol. If it is a device: its TLS library, or something between, damages data."
            }
            Self::Silent => {
                "A connection was opened and closed without a word, as port checks and load balancers do."
            }
            Self::Vanished => {
                "The client hung up without an alert when our certificate came, so only it knows why; its own log may say. In \
                 this order: it refused our certificate silently, as BearSSL and Node.js do (its root, its clock, the name it \
                 connects to); a record was larger than its buffer (max-fragment-size of this listener, or a larger input \
                 buffer); it ran out of memory, power or network. `signet doctor HOST:PORT --ca ITS-ROOT` looks at the \
                 broker as the device does."
            }
            Self::PeerClosed => {
                "The client went away in the middle without an alert: it lost power or the network, ran out of memory, or \
                 refused us silently, for its root, its clock or the name it connects to. Its own log knows more."
            }
            Self::Network => "The network failed: see the reason.",
            Self::Internal => "The fault is the broker's: see the reason, and report it.",
        }
    }
}
