//! What the doctor can find: one table, from which the page `broker/docs/doctor.md` is checked too.
//!
//! A text says what is wrong with this certificate or server; an advice says what to do, and fits every case of its kind.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It keeps the device from connecting, or somebody out of whom it should; the exit code is 1.
    Error,
    /// It works today, and will not for long or not for everybody.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// How `openssl verify` calls the same trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OpenSsl {
    /// The number in `error 20 at 0 depth lookup`.
    pub number: u16,
    /// The words behind it.
    pub name: &'static str,
}

/// The numbers and words of OpenSSL 3 (`x509_vfy.h`, `x509_txt.c`); 0 stands for none.
const fn openssl(number: u16) -> Option<OpenSsl> {
    let name = match number {
        2 => "unable to get issuer certificate",
        3 => "unable to get certificate CRL",
        9 => "certificate is not yet valid",
        10 => "certificate has expired",
        11 => "CRL is not yet valid",
        12 => "CRL has expired",
        18 => "self-signed certificate",
        19 => "self-signed certificate in certificate chain",
        20 => "unable to get local issuer certificate",
        23 => "certificate revoked",
        25 => "path length constraint exceeded",
        26 => "unsuitable certificate purpose",
        32 => "key usage does not include certificate signing",
        62 => "hostname mismatch",
        66 => "EE certificate key too weak",
        68 => "CA signature digest algorithm too weak",
        79 => "invalid CA certificate",
        _ => return None,
    };
    Some(OpenSsl { number, name })
}

/// One row of the table of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name, for programs; never changes.
    pub code: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// How `openssl verify` calls it, when it does.
    pub openssl: Option<OpenSsl>,
    /// What it means.
    pub about: &'static str,
    /// What to do.
    pub advice: &'static str,
}

macro_rules! findings {
    ($($name:ident { $($field:ident: $type:ty),* } $code:literal $severity:ident $openssl:literal
        $about:literal, $text:literal, $advice:literal;)*) => {
        /// One thing that the doctor has found. Every text of a certificate in it is escaped.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are the words of the text")]
        pub enum Finding {
            $(#[doc = $about] $name { $($field: $type),* },)*
        }

        impl Finding {
            /// Every kind of finding.
            pub const KINDS: &[Kind] = &[$(Kind {
                code: $code,
                severity: Severity::$severity,
                openssl: openssl($openssl),
                about: $about,
                advice: $advice,
            }),*];

            /// The row of the table that it belongs to.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name { .. } => Kind {
                        code: $code,
                        severity: Severity::$severity,
                        openssl: openssl($openssl),
                        about: $about,
                        advice: $advice,
                    },)*
                }
            }
        }

        impl fmt::Display for Finding {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => write!(f, $text),)*
                }
            }
        }
    };
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.kind();
        let mut row = serializer.serialize_struct("Finding", 5)?;
        row.serialize_field("code", kind.code)?;
        row.serialize_field("severity", &kind.severity)?;
        row.serialize_field("openssl", &kind.openssl)?;
        row.serialize_field("text", &self.to_string())?;
        row.serialize_field("advice", kind.advice)?;
        row.end()
    }
}

findings! {
    // Files.
    CertificateUnreadable { place: String, reason: String } "certificate-unreadable" Error 0
        "A file holds no certificate, or one that cannot be parsed.",
        "{place}: {reason}",
        "Give the certificate in PEM or DER. `openssl x509 -in FILE -noout -text` shows what a file holds.";
    LeafNotFirst { subject: String, first: String } "leaf-not-first" Error 0
        "The file begins with another certificate than the device's or server's own.",
        "the file begins with \"{first}\", an authority's, and \"{subject}\" comes later",
        "Put the certificate itself first, then the authority that signed it: `cat device.crt issuing-ca.crt > chain.crt`.";
    UnrelatedInChain { subject: String } "unrelated-in-chain" Warning 0
        "The file holds a certificate that is no part of the path.",
        "\"{subject}\" is in the file and signs nothing in it",
        "Take it out: every certificate that is sent costs the device memory and time.";
    RootInChain { subject: String, bytes: usize } "root-in-chain" Note 0
        "The root is sent along, although the other side must have it anyway.",
        "the root \"{subject}\" is in the chain: {bytes} bytes that nobody needs",
        "Leave the root out of what is sent; it belongs in the trust store of the other side.";
    CaUnusable { problem: String } "ca-unusable" Error 0
        "A file of trusted authorities cannot be used.",
        "{problem}",
        "Give the authorities' certificates in PEM or DER, each with CA:TRUE, of X.509 version 3.";
    CrlUnusable { problem: String } "crl-unusable" Error 0
        "A revocation list cannot be used.",
        "{problem}",
        "Give a complete list in PEM or DER, signed by an authority that is trusted.";
    KeyUnusable { problem: String } "key-unusable" Error 0
        "The private key cannot be read or used.",
        "{problem}",
        "Give one private key without a passphrase in PEM: P-256, P-384, or RSA of 2048 to 4096 bits.";
    KeyExposed { problem: String } "key-exposed" Warning 0
        "Others can read the private key.",
        "{problem}",
        "chmod 600 the key file. If others had access to it, issue another certificate with another key.";
    KeyMismatch { key: String, subject: String } "key-mismatch" Error 0
        "The private key belongs to another certificate.",
        "the public key of \"{subject}\" is not that of the private key {key}",
        "Find the key that the signing request was made with, or issue a certificate for this one. Compare: `openssl pkey \
         -in KEY -pubout` and `openssl x509 -in CERT -noout -pubkey`.";
    ConfigUnusable { problem: String } "config-unusable" Error 0
        "The configuration, or a file that it names, has a problem.",
        "{problem}",
        "`signet check --config FILE` lists every problem with line and column.";

    // The path.
    NoTrustAnchor {} "no-trust-anchor" Note 0
        "Nobody said which authorities are trusted, so the chain was not judged.",
        "no trusted authorities were given: whether anybody accepts this chain is not known",
        "Give --ca FILE with what the other side trusts, or --config FILE for what the broker trusts.";
    MissingIssuer { of: String, issuer: String, depth: usize } "missing-issuer" Error 20
        "The signer of a certificate is neither in what is sent nor among the trusted authorities.",
        "the signer of \"{of}\" (depth {depth}) is missing: \"{issuer}\" is neither in the chain nor among the trusted \
         authorities",
        "If the missing signer is an intermediate, append its certificate to what is sent; if it is the root, add it to the \
         trusted authorities (client-ca of the broker, the root in the device).";
    PartialChain { anchor: String, issuer: String } "partial-chain" Warning 2
        "The path ends at a trusted authority that is not self-signed, and its own signer is not there.",
        "the path ends at \"{anchor}\", which is trusted, but its own signer \"{issuer}\" is not there",
        "Signet takes a trusted intermediate as it is. OpenSSL, Mosquitto and many others want the root too: add it to the \
         file of trusted authorities, or use `openssl verify -partial_chain`.";
    NamesakeIssuer { of: String, issuer: String } "namesake-issuer" Error 20
        "An authority of the right name is there, but another key signed.",
        "an authority \"{issuer}\" is there, but its key did not sign \"{of}\"",
        "The authority was probably made anew under its old name. Use the authority's certificate that belongs to this one, or \
         issue this certificate anew.";
    SelfSigned { subject: String } "self-signed" Error 18
        "The certificate is signed by its own key.",
        "\"{subject}\" is signed by its own key, and nobody trusts it",
        "Let the authority that the other side trusts sign a certificate for this key.";
    UntrustedRoot { subject: String } "untrusted-root" Error 19
        "The chain is complete, and its root is not trusted.",
        "the chain ends at the root \"{subject}\", which is not among the trusted authorities",
        "Add that root to the trusted authorities if you trust it; otherwise this is somebody else's certificate.";
    IssuerNotAuthority { subject: String } "issuer-not-authority" Error 79
        "A certificate of the path signs another one and is no authority's.",
        "\"{subject}\" has signed a certificate, but is no authority: its basicConstraints do not say CA:TRUE",
        "Issue with an authority. Make its certificate with basicConstraints CA:TRUE and keyUsage keyCertSign.";
    IssuerMayNotSign { subject: String } "issuer-may-not-sign" Error 32
        "An authority's key usage does not allow it to sign certificates.",
        "the key usage of \"{subject}\" lacks keyCertSign",
        "Make the authority's certificate anew, with keyCertSign, from the same key and subject; what it issued stays good.";
    PathLength { subject: String, allowed: u32, found: usize } "path-length" Error 25
        "There are more authorities below one than it allows.",
        "\"{subject}\" allows {allowed} authorities below it (pathLenConstraint), and there are {found}",
        "Issue the device's certificate by an authority further up, or make the authority anew with a greater pathlen.";
    WeakSignature { subject: String, algorithm: String } "weak-signature" Error 68
        "A certificate of the path is signed in a way that can be forged or that is not accepted.",
        "\"{subject}\" is signed with {algorithm}",
        "Issue it anew, signed with ECDSA or RSA and SHA-256 or better.";
    ListenerRefuses { listener: String, reason: String } "listener-refuses" Error 0
        "The broker's own verifier refuses the certificate for a reason that no other finding names.",
        "{listener} refuses this certificate: {reason}",
        "The reason is the verifier's own, as it is logged for a failed handshake.";
    OtherListenerRefuses { listener: String, reason: String } "other-listener-refuses" Note 0
        "Another listener of the broker does not accept the certificate.",
        "{listener} does not accept this certificate: {reason}",
        "Nothing, if the device is to use another listener; --listener ADDRESS asks about one.";

    // The certificate itself.
    VersionOne { whose: String } "version-one" Error 0
        "The certificate is of X.509 version 1, and the listener refuses those.",
        "{whose} is of X.509 version 1, as `openssl x509 -req` of OpenSSL 3.0 makes without -extfile",
        "Issue it anew with -extfile <(printf 'extendedKeyUsage=clientAuth'); the key can stay. Or set x509-v1 = \"accept\" \
         and require-client-auth-eku = false for the listener.";
    VersionOneTolerated { whose: String } "version-one-tolerated" Warning 0
        "The certificate is of X.509 version 1, which this listener accepts and many TLS libraries do not.",
        "{whose} is of X.509 version 1: nothing in it says what it is for",
        "Issue it anew as version 3 when it is renewed: -extfile <(printf 'extendedKeyUsage=clientAuth').";
    LeafIsAuthority { whose: String } "leaf-is-authority" Error 0
        "The certificate is an authority's and must not be used by a device or server.",
        "{whose} is an authority's (CA:TRUE): with its key, whoever has it can issue certificates",
        "Give the device a certificate of its own with CA:FALSE. An authority's key does not belong on a device.";
    WrongPurpose { whose: String, found: String, wanted: &'static str } "wrong-purpose" Error 26
        "The extended key usage does not allow what the certificate is used for.",
        "the extended key usage of {whose} is {found}; {wanted} is needed",
        "Issue it with extendedKeyUsage=clientAuth for a device, serverAuth for a server.";
    MissingPurpose { whose: String } "missing-purpose" Error 0
        "There is no extended key usage, and the listener wants one.",
        "{whose} has no extended key usage, and clientAuth is required",
        "Issue it with extendedKeyUsage=clientAuth. For secure elements, whose certificates have none, set \
         require-client-auth-eku = false for the listener.";
    WrongKeyUsage { whose: String, found: String } "wrong-key-usage" Error 26
        "The key usage does not allow the signature of a TLS handshake.",
        "the key usage of {whose} is {found}; digitalSignature is needed",
        "Issue it with keyUsage=digitalSignature.";
    KeyNotAccepted { whose: String, found: String } "key-not-accepted" Error 66
        "The key is too weak, too large or of a kind that is not accepted.",
        "the key of {whose} is {found}; ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits, is accepted",
        "Make a P-256 key (`openssl ecparam -name prime256v1 -genkey -noout`) and have a certificate issued for it.";
    Expired { whose: String, ago: String, at: String } "expired" Error 10
        "The validity has ended.",
        "{whose} expired {ago} ago, at {at}",
        "Issue another one. An authority that has expired makes everything below it invalid: renew it from the same key.";
    NotYetValid { whose: String, wait: String, at: String } "not-yet-valid" Error 9
        "The validity has not begun.",
        "{whose} becomes valid only in {wait}, at {at}",
        "Look at the clock of this machine and of the one that issued it. Authorities should back-date by an hour.";
    EndsSoon { whose: String, left: String, at: String } "ends-soon" Warning 0
        "The validity ends within two weeks.",
        "{whose} ends in {left}, at {at}",
        "Issue the next one now, before the device can no longer connect to fetch it.";
    AuthorityEndsFirst { authority: String, at: String } "authority-ends-first" Warning 0
        "An authority of the path ends before the certificate does.",
        "the authority \"{authority}\" ends at {at}, before the certificate, which is good for nothing from then on",
        "Renew the authority from the same key and subject, or issue certificates that end before it.";
    ClockSuspect { reason: String } "clock-suspect" Warning 0
        "This machine's clock looks wrong, so every statement about validity may be too.",
        "this machine's clock looks wrong: {reason}",
        "Set the clock (NTP), then ask again. `timedatectl` shows whether it is synchronised.";
    NoUsableName { whose: String, reason: String, hint: &'static str } "no-usable-name" Error 0
        "The certificate gives no name that may be used as an identity.",
        "{whose} gives no usable name: {reason} ({hint})",
        "Issue it with exactly one common name of ASCII letters, digits and . _ : - that begins with a letter or digit, at most \
         64 characters.";

    // Revocation and the registry.
    Revoked { whose: String, list: String } "revoked" Error 23
        "A revocation list lists it.",
        "{whose} is revoked by the list of \"{list}\"",
        "If the device is good, issue it another certificate with another key. A revocation is for ever.";
    CrlStale { issuer: String, at: String } "crl-stale" Error 12
        "The revocation list is past its nextUpdate, and the listener refuses everything of its issuer then.",
        "the revocation list of \"{issuer}\" was due for renewal at {at}",
        "Put a current list in place; crl-stale = \"grace\" or \"warn\" decides what happens until then.";
    CrlDoubtful { problem: String } "crl-doubtful" Warning 0
        "A revocation list is due soon, from the future, superseded, or counts although it is stale.",
        "{problem}",
        "Put a current list in place, before what it judges is refused.";
    CrlMissing { issuer: String } "crl-missing" Error 3
        "Revocation lists are there, but none of the certificate's issuer.",
        "revocation lists are there, but none of \"{issuer}\", so the certificate's standing is unknown",
        "Add the list of that issuer, or use none.";
    NotRegistered { subject: String } "not-registered" Error 0
        "The certificate is valid, and the registry does not know it.",
        "\"{subject}\" is valid, and the broker's registry does not know it: MQTT answers 0x87 not authorized (5 in 3.1.1)",
        "Register it: `signet device add NAME --csr FILE` issues one that is known; for an outside authority, `signet ca import \
         --unknown auto` admits what it signed.";
    PendingActivation { subject: String } "pending-activation" Error 0
        "The certificate is registered and waits to be activated.",
        "\"{subject}\" is registered and not in force yet",
        "`signet device activate --certificate ID` puts it in force.";
    Suspended { subject: String, holder: String } "suspended" Error 0
        "The certificate, its claim or the trust in its authority is suspended.",
        "\"{subject}\" of {holder} is suspended, or its claim or authority is",
        "`signet device show NAME` says which; `signet device activate` lifts it.";
    Quarantined { who: String } "quarantined" Error 0
        "The device connects, and reaches its recovery topics only.",
        "{who} is in quarantine: it connects, and reaches its recovery topics only",
        "`signet device show NAME` says why, `signet device release NAME` ends it. An expired certificate must be renewed first.";
    RevokedInRegistry { subject: String, since: String, reason: String } "revoked-in-registry" Error 23
        "The registry has revoked the certificate, or its authority.",
        "the registry has revoked \"{subject}\" ({reason}, since {since})",
        "If the device is good, issue it another certificate with another key. A revocation is for ever.";
    SerialConflict { subject: String } "serial-conflict" Error 0
        "The registry knows another certificate of the same issuer and serial number: one of the two is forged.",
        "another certificate with the serial number of \"{subject}\" and the same issuer is registered",
        "Find out who issued it. An authority that gives a serial number twice, or somebody else with its key, is at work.";
    RefusedByRegistry { subject: String, standing: String } "refused-by-registry" Error 0
        "The registry does not let the certificate connect, in a state that this version of the doctor has no words for.",
        "the registry says of \"{subject}\": {standing}",
        "`signet device show` and `signet audit list --certificate ID` tell how it came to that.";
    WillBeAdmitted { subject: String, policy: String } "will-be-admitted" Note 0
        "The registry does not know the certificate, and its authority's are admitted on first sight.",
        "the registry does not know \"{subject}\", and will take it in when it connects ({policy})",
        "Nothing; with jitr it then waits for `signet device activate`.";
    RegistryUnavailable { problem: String } "registry-unavailable" Warning 0
        "The registry could not be asked.",
        "the registry could not be asked: {problem}",
        "Run the command as the broker's user, on its machine, and give --config FILE or --socket FILE.";
    NoRights { who: String } "no-rights" Warning 0
        "The policy gives the identity no right at all.",
        "no rule of the policy gives {who} anything: it may connect, and neither publish nor receive",
        "Add a rule. `signet acl why NAME write TOPIC --config FILE` shows what is considered.";

    // Small devices.
    RsaKey { whose: String, bits: usize } "rsa-key" Warning 0
        "An RSA key costs a small device time and memory at every connect.",
        "{whose} has an RSA key of {bits} bits: a signature with it takes an ESP32 a large part of a second or more, and heap",
        "Use P-256 (prime256v1) for devices, server and authorities.";
    SlowCurve { whose: String, curve: String } "slow-curve" Note 0
        "A larger curve than P-256 is several times slower on a small device.",
        "{whose} has a key on {curve}, several times slower than P-256 on an ESP32",
        "Use P-256 (prime256v1) unless something demands more.";
    LongChain { whose: String, certificates: usize, bytes: usize } "long-chain" Warning 0
        "The chain is long for a small device.",
        "{whose} sends {certificates} certificates, {bytes} bytes: a small device must hold all of it",
        "Send the certificate and one intermediate at most, without the root. P-256 certificates take about 500 bytes each.";
    ChainExceedsBuffer { bytes: usize, buffer: usize } "chain-exceeds-buffer" Warning 0
        "The device's certificate message is larger than the usual output buffer.",
        "the device's certificate message takes {bytes} bytes; Mbed TLS sends it in one piece from a buffer that is {buffer} \
         bytes in ESP-IDF",
        "Shorten the chain, or raise CONFIG_MBEDTLS_SSL_OUT_CONTENT_LEN in the firmware.";
    LargeRecords { largest: usize } "large-records" Note 0
        "The server sent records larger than 4 KiB, so a device needs an input buffer of that size.",
        "the server sent a record of {largest} bytes during the handshake; a device with a smaller input buffer cannot connect",
        "Set max-fragment-size = 1024 or 2048 for the listener of small devices; a device that asks for less (RFC 6066) \
         gets less.";

    // HOST:PORT: the way to TLS.
    NameNotResolved { host: String, reason: String } "name-not-resolved" Error 0
        "The host name has no address.",
        "{host} has no address: {reason}",
        "Check the spelling and the DNS server of this machine and of the device.";
    PortClosed { address: String } "port-closed" Error 0
        "The machine answers, and nobody listens at the port.",
        "{address} refuses the connection: nobody listens there",
        "Is the broker running (`signet status`), at this address (not only at 127.0.0.1), at this port (8883 for TLS)?";
    Unreachable { address: String, reason: String } "unreachable" Error 0
        "The machine cannot be reached.",
        "{address} cannot be reached: {reason}",
        "Check the route and the firewall between here and there.";
    ConnectTimeout { address: String, secs: u64 } "connect-timeout" Error 0
        "Nothing answers to the attempt to connect.",
        "{address} did not answer within {secs} s",
        "A firewall that drops packets, a wrong address, or a machine that is off.";
    SilentServer { address: String, secs: u64, after: &'static str } "silent-server" Error 0
        "The server took the connection and says nothing.",
        "{address} took the connection and was silent for {secs} s after {after}",
        "Something that is not TLS may listen there and wait for the client, or the server is overloaded.";
    NotTls { address: String, seems: String } "not-tls" Error 0
        "What answers is not TLS.",
        "{address} does not speak TLS: {seems}",
        "Use the port with TLS, usually 8883; 1883 is MQTT without it, and Signet has no such port.";
    HandshakeRefused { version: &'static str, alert: String, words: String } "handshake-refused" Error 0
        "The server refused the handshake with an alert.",
        "{version}: the server refused with the alert {alert}: {words}",
        "`signet tls failures` at the broker says why in its own words.";
    ConnectionCut { version: &'static str, after: &'static str } "connection-cut" Error 0
        "The server closed the connection without an alert.",
        "{version}: the server closed the connection after {after}, without a word",
        "`signet tls failures` and `signet status` at the broker: limits per address close connections before TLS.";
    HandshakeFailed { version: &'static str, reason: String } "handshake-failed" Error 0
        "The handshake failed on this side.",
        "{version}: {reason}",
        "The reason is the TLS library's own.";
    TlsVersionMissing { version: &'static str, reason: String } "tls-version-missing" Note 0
        "The server speaks only one of TLS 1.2 and 1.3.",
        "the server does not speak {version} ({reason})",
        "tls-versions of the listener decides. Mbed TLS 2, BearSSL and older devices have TLS 1.2 only.";

    // HOST:PORT: the server.
    WrongServerName { name: String, has: String } "wrong-server-name" Error 62
        "The server's certificate is for another name than the one connected to.",
        "the server's certificate is not for \"{name}\" but for {has}",
        "Connect to a name that is in it, or issue the server's certificate with subjectAltName=DNS:NAME (IP:ADDRESS for an \
         address). --server-name checks another name than the one dialled.";
    ServerNameInCn { name: String } "server-name-in-cn" Warning 0
        "The server's name is in its common name only, which many TLS libraries ignore.",
        "\"{name}\" is in the common name of the server's certificate, and there is no subjectAltName",
        "Issue the server's certificate with subjectAltName=DNS:NAME.";
    ServerNotKeyHolder { version: &'static str } "server-not-key-holder" Error 0
        "The server's signature does not fit its certificate.",
        "{version}: the server's signature does not fit its certificate: it does not have the private key",
        "The server has another key than its certificate's, or somebody is between here and there.";
    ServerRefused { reason: String } "server-refused" Error 0
        "A TLS client refuses the server's certificate for a reason that no other finding names.",
        "a client that trusts these authorities refuses the server: {reason}",
        "The reason is the verifier's own (webpki).";
    NoCertificateAsked {} "no-certificate-asked" Warning 0
        "The server asks for no client certificate.",
        "the server asks for no client certificate: who connects is not proven by TLS",
        "For Mosquitto, set require_certificate true. A Signet listener always asks.";
    AnybodyMayConnect { version: &'static str } "anybody-may-connect" Error 0
        "The server accepted MQTT from a client without a certificate.",
        "MQTT {version}: the server accepted a client that has no certificate, name or password",
        "Require client certificates, and switch anonymous access off.";
    IssuerNotAmongAsked { issuers: usize } "issuer-not-among-asked" Warning 0
        "The server names the authorities that it accepts, and none of them is above the certificate.",
        "the server names {issuers} authorities that it accepts, and none of them signed a certificate of this chain",
        "Many clients send no certificate then. Add the device's authority to client-ca, or use a certificate of one that is \
         named.";
    CertificateNotSent {} "certificate-not-sent" Error 0
        "The client certificate could not be sent: its key makes no signature that the server takes.",
        "the server asked for a certificate, and this key makes none of the signatures that it takes",
        "Use a P-256 key.";

    // HOST:PORT: MQTT.
    ClientRefused { version: &'static str, alert: String, words: String } "client-refused" Error 0
        "The server refused the client certificate with an alert.",
        "{version}: the server refused the client certificate with the alert {alert}: {words}",
        "`signet doctor CERT --config FILE` at the broker, or `signet tls failures`, say which rule it breaks.";
    ConnectRefused { version: &'static str, code: String, words: String } "connect-refused" Error 0
        "CONNACK says no.",
        "MQTT {version}: CONNACK {code}: {words}",
        "The certificate was accepted by TLS; what refuses is the registry, a limit or the client id.";
    ClientIdBound { version: &'static str } "client-id-bound" Note 0
        "The listener binds the client id to the identity, so the doctor's own client id was refused.",
        "MQTT {version}: the server refused the doctor's client id, as a listener does that binds it to the certificate's name",
        "Give --client-id NAME to go on; it takes over the session of the device that is connected under it.";
    MqttSilent { version: &'static str, secs: u64 } "mqtt-silent" Error 0
        "No CONNACK came.",
        "MQTT {version}: no CONNACK came within {secs} s",
        "The server speaks TLS; perhaps it is no MQTT server (HTTPS?), or it is overloaded.";
    MqttCut { version: &'static str, words: String } "mqtt-cut" Error 0
        "The connection ended instead of a CONNACK.",
        "MQTT {version}: the connection ended without CONNACK: {words}",
        "In TLS 1.3 a server judges the client's certificate after the client is done. `signet tls failures` says why.";
    NotMqtt { version: &'static str, seems: String } "not-mqtt" Error 0
        "What answers over TLS is not MQTT.",
        "MQTT {version}: the server speaks TLS, but its answer is no CONNACK: {seems}",
        "Another service has this port: HTTPS, or MQTT over WebSocket.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_a_program_can_type() {
        let codes: BTreeSet<&str> = Finding::KINDS.iter().map(|kind| kind.code).collect();
        assert_eq!(codes.len(), Finding::KINDS.len());
        for kind in Finding::KINDS {
            assert!(kind.code.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", kind.code);
            assert!(kind.advice.ends_with(['.', '?']) && kind.about.ends_with('.'), "{}", kind.code);
        }
    }

    #[test]
    fn a_finding_says_what_is_wrong_with_its_own_words_and_the_number_that_openssl_has() {
        let finding = Finding::MissingIssuer { of: "CN=a".into(), issuer: "CN=CA".into(), depth: 0 };
        assert!(finding.to_string().contains("\"CN=CA\" is neither"), "{finding}");
        let row = serde_json::to_value(&finding).unwrap();
        assert_eq!(row["openssl"]["number"], 20);
        assert_eq!(row["severity"], "error");
        assert_eq!(row["code"], "missing-issuer");
    }
}
