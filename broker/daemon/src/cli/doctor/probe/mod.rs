//! A server: from its name to its CONNACK, step by step, each with a deadline.

mod link;
mod mqtt;
mod server;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, SupportedProtocolVersion};
use rustls_pki_types::{ServerName, UnixTime};
use signet_core::Refusal;
use signet_wire::{ClientId, ReasonCode, Version};

use super::args::DoctorArgs;
use super::chain::Chain;
use super::device;
use super::finding::Finding;
use super::presented::read_chain;
use super::report::Report;
use super::rules::{Rules, Use, check, check_cost, whose};
use crate::cli::out::Failure;
use crate::tls::{Source, inspect};
use link::{Broken, Dial, Link, Seen, Wire};
use mqtt::Answer;

/// The versions that are tried, the newer first, each with the version of MQTT that is tried over it.
static VERSIONS: [(&str, &SupportedProtocolVersion, Version); 2] =
    [("TLS 1.3", &rustls::version::TLS13, Version::V5), ("TLS 1.2", &rustls::version::TLS12, Version::V311)];

/// One handshake, and the CONNECT over it.
struct Probe {
    tls: &'static str,
    /// Why there was no handshake.
    failed: Option<Finding>,
    seen: Seen,
    wire: Wire,
    /// The version of MQTT that was tried, and what came back.
    mqtt: Option<(Version, Answer)>,
}

/// Looks at the server at `host` and `port`.
pub(super) fn server(args: &DoctorArgs, host: &str, port: u16, now: UnixTime) -> Result<Report, Failure> {
    let mut report = Report::new(&args.target);
    let name = args.server_name.as_deref().unwrap_or(host);
    let asked = ServerName::try_from(name.to_owned()).map_err(|_| {
        Failure::usage(format!("{name:?} can be no server's name: give a host name or an address"))
    })?;
    let (own, key) = client(args, now, &mut report)?;
    let client_id = client_id(args)?;
    let Some((address, socket)) = reach(host, port, args.timeout, &mut report) else {
        return Ok(report.finish());
    };
    let dial = Dial { address, name: asked.clone(), key, step: args.timeout };
    let probes = probe_all(&dial, socket, &client_id, &mut report);
    tell_tls(&probes, &dial, &mut report);
    tell_mqtt(&probes, &dial, own.as_ref(), &mut report);
    if let Some(probe) = probes.iter().find(|probe| !probe.seen.chain.is_empty()) {
        server::judge(&probe.seen, name, &asked, args, now, &mut report)?;
        tell_requests(&probe.seen, own.as_ref(), &mut report);
        let largest = probes.iter().map(|probe| probe.wire.largest).max().unwrap_or(0);
        device::check_records(largest, &mut report.findings);
    }
    Ok(report.finish())
}

/// The client certificate and its key, and what is wrong with them by themselves.
fn client(
    args: &DoctorArgs,
    now: UnixTime,
    report: &mut Report,
) -> Result<(Option<Chain>, Option<Arc<CertifiedKey>>), Failure> {
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok((None, None)) };
    let usage = |error: crate::tls::SourceError| Failure::usage(error.to_string());
    let (cert, key_source) = (Source::read(cert).map_err(usage)?, Source::read(key).map_err(usage)?);
    let Some(chain) = read_chain(&cert, &mut report.findings) else { return Ok((None, None)) };
    report.fact("presents", format!("{}, serial {}", chain.leaf.subject, chain.leaf.serial));
    let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let path = chain.climb(&[], &mut report.findings);
    check(&chain.leaf, &path, &Rules::strict(Use::Client), secs, &mut report.findings);
    check_cost(&chain.leaf, &path, Use::Client, &mut report.findings);
    device::check_length(&chain, whose(&chain.leaf, Use::Client), &mut report.findings);
    device::check_own_message(&chain, &mut report.findings);
    let signing = match inspect::signing_key(&key_source) {
        Ok(signing) => signing,
        Err(error) => {
            report.findings.push(Finding::KeyUnusable { problem: error.to_string() });
            return Ok((Some(chain), None));
        }
    };
    if signing.public_key().is_none_or(|public| public.as_ref() != chain.leaf.spki()) {
        let (key, subject) = (key_source.file.clone(), chain.leaf.subject.clone());
        report.findings.push(Finding::KeyMismatch { key, subject });
    }
    let sent: Vec<_> =
        std::iter::once(&chain.leaf).chain(&chain.rest).map(|found| found.der.clone()).collect();
    let certified = Arc::new(inspect::presented(&sent, signing));
    Ok((Some(chain), Some(certified)))
}

/// The client id that is used: one that no device has, or the one that was given.
fn client_id(args: &DoctorArgs) -> Result<ClientId, Failure> {
    let text = match &args.client_id {
        Some(id) => id.clone(),
        None => {
            let mut random = [0u8; 4];
            aws_lc_rs::rand::fill(&mut random)
                .map_err(|_| Failure::usage("the system has no random numbers to give"))?;
            format!("signet-doctor-{:08x}", u32::from_be_bytes(random))
        }
    };
    ClientId::try_from(text.as_str()).map_err(|error| Failure::usage(format!("{text:?}: {error}")))
}

/// Finds an address that answers, and connects to it.
fn reach(host: &str, port: u16, step: Duration, report: &mut Report) -> Option<(SocketAddr, TcpStream)> {
    let addresses = match resolve(host, port, step) {
        Ok(addresses) => addresses,
        Err(reason) => {
            report.findings.push(Finding::NameNotResolved { host: host.to_owned(), reason });
            return None;
        }
    };
    let mut problems = Vec::new();
    for address in &addresses {
        let began = Instant::now();
        match link::connect(*address, step) {
            Ok(socket) => {
                report.fact("TCP", format!("{address} answers in {} ms", began.elapsed().as_millis()));
                return Some((*address, socket));
            }
            Err(error) => problems.push(unreachable(*address, &error, step)),
        }
    }
    report.findings.extend(problems);
    None
}

/// The operating system offers no deadline for this, so it is waited for from outside.
fn resolve(host: &str, port: u16, step: Duration) -> Result<Vec<SocketAddr>, String> {
    let (answer, answered) = mpsc::channel();
    let asked = host.to_owned();
    std::thread::spawn(move || {
        let found = (asked.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // Nobody waits any more when the deadline has passed.
        drop(answer.send(found));
    });
    match answered.recv_timeout(step) {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_)) => Err("the name exists and has no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no name server answered within {} s", step.as_secs())),
    }
}

fn unreachable(address: SocketAddr, error: &std::io::Error, step: Duration) -> Finding {
    let address = address.to_string();
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Finding::PortClosed { address },
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
            Finding::ConnectTimeout { address, secs: step.as_secs() }
        }
        _ => Finding::Unreachable { address, reason: error.to_string() },
    }
}

/// A handshake of each version, with one version of MQTT over each; both over one, if there is only one.
fn probe_all(dial: &Dial, socket: TcpStream, client_id: &ClientId, report: &mut Report) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut socket = Some(socket);
    for (tls, version, mqtt) in VERSIONS {
        probes.push(probe(dial, socket.take(), (tls, version, mqtt), client_id, report));
        // What is no TLS server is none in another version either.
        if matches!(
            probes.last().and_then(|probe| probe.failed.as_ref()),
            Some(Finding::NotTls { .. } | Finding::SilentServer { .. })
        ) {
            return probes;
        }
    }
    for (index, (.., untried)) in VERSIONS.iter().enumerate() {
        // A server that refuses the client does so over the other version too.
        let refused = |found: &Finding| matches!(found, Finding::ClientRefused { .. });
        let failed = probes.get(index).and_then(|probe| probe.failed.as_ref());
        let failed = failed.is_some_and(|found| !refused(found));
        let works = probes.iter().position(|probe| probe.failed.is_none());
        if let (true, Some(other)) = (failed, works)
            && let Some((tls, version, _)) = VERSIONS.get(other)
        {
            probes.push(probe(dial, None, (tls, version, *untried), client_id, report));
        }
    }
    probes
}

fn probe(
    dial: &Dial,
    socket: Option<TcpStream>,
    (tls, version, mqtt): (&'static str, &'static SupportedProtocolVersion, Version),
    client_id: &ClientId,
    report: &mut Report,
) -> Probe {
    let began = Instant::now();
    let mut link = match Link::open(dial, version, socket) {
        Ok(link) => link,
        Err(broken) => {
            let failed = Some(failed(tls, dial, broken, &Seen::default(), Wire::default()));
            return Probe { tls, failed, seen: Seen::default(), wire: Wire::default(), mqtt: None };
        }
    };
    if let Err(broken) = link.shake_hands(dial.step) {
        let (seen, wire) = (link.seen(), link.wire());
        let failed = Some(failed(tls, dial, broken, &seen, wire));
        return Probe { tls, failed, seen, wire, mqtt: None };
    }
    let (took, wire) = (began.elapsed().as_millis(), link.wire());
    report.fact(
        tls,
        format!(
            "{}, in {took} ms; the server's flight: {} bytes in {} records, the largest {}",
            link.terms(),
            wire.bytes,
            wire.records,
            wire.largest
        ),
    );
    let answer = mqtt::connect(&mut link, mqtt, client_id, dial.step);
    link.close();
    Probe { tls, failed: None, seen: link.seen(), wire: link.wire(), mqtt: Some((mqtt, answer)) }
}

/// Why there was no handshake.
fn failed(version: &'static str, dial: &Dial, broken: Broken, seen: &Seen, wire: Wire) -> Finding {
    let address = dial.address.to_string();
    let after = if seen.chain.is_empty() { "our hello" } else { "our certificate, or the lack of one" };
    match broken {
        Broken::TimedOut if wire.bytes == 0 => {
            Finding::SilentServer { address, secs: dial.step.as_secs(), after: "our hello" }
        }
        Broken::TimedOut => Finding::SilentServer { address, secs: dial.step.as_secs(), after },
        Broken::Closed => Finding::ConnectionCut { version, after },
        Broken::NotTls(first) => Finding::NotTls { address, seems: seems(&first) },
        Broken::Tls(reason) => Finding::HandshakeFailed { version, reason },
        Broken::Alert(alert) => {
            let (name, words) = (inspect::alert_text(alert), alert_in_words(alert).to_owned());
            if seen.chain.is_empty() || !seen.asked {
                Finding::HandshakeRefused { version, alert: name, words }
            } else {
                Finding::ClientRefused { version, alert: name, words }
            }
        }
    }
}

/// What an alert of the server means.
fn alert_in_words(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => "it wants a client certificate, and none was sent",
        A::BadCertificate => "it cannot read the client certificate, or it gives no usable name",
        A::UnsupportedCertificate => {
            "the client certificate is not for this purpose (extended key usage, version, kind of key)"
        }
        A::CertificateRevoked => "the client certificate is revoked",
        A::CertificateExpired => {
            "the client certificate, or an authority above it, has expired or is not yet valid"
        }
        A::CertificateUnknown => "the client certificate breaks a rule for certificates",
        A::UnknownCA => {
            "it does not know the authority of the client certificate, an intermediate is missing, or its revocation \
             list is stale"
        }
        A::DecryptError => "the client's signature does not fit its certificate: the key is another one's",
        A::HandshakeFailure => "it finds nothing in common, or (TLS 1.2) misses a client certificate",
        A::ProtocolVersion => "it does not speak this version",
        A::AccessDenied => "it does not want to talk to this client",
        A::UnrecognisedName => "it has no certificate for the name that was asked for",
        A::InternalError => "it has a problem of its own",
        A::InsufficientSecurity => "it wants stronger cryptography",
        _ => "it could not make sense of what it received",
    }
}

/// What the first bytes of something that is not TLS look like.
fn seems(first: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(first).chars().flat_map(char::escape_default).take(80).collect();
    match first {
        [b'H', b'T', b'T', b'P', ..] => "it looks like HTTP".to_owned(),
        [b'S', b'S', b'H', b'-', ..] => "it looks like SSH".to_owned(),
        [0x20, 0x02 | 0x03, ..] => "it looks like MQTT without TLS".to_owned(),
        [b'2', b'2', b'0', ..] => "it looks like FTP or SMTP".to_owned(),
        _ => format!("its first bytes are \"{text}\""),
    }
}

/// The handshakes: one version that is missing is a note, all of them an error each.
fn tell_tls(probes: &[Probe], dial: &Dial, report: &mut Report) {
    let some = probes.iter().any(|probe| probe.failed.is_none());
    let without_client = dial.key.is_none();
    for probe in probes {
        match &probe.failed {
            None => {}
            // In TLS 1.2 a server that wants a certificate says so before the handshake ends; that is as it should be.
            Some(Finding::ClientRefused { alert, .. }) if without_client => {
                report.fact(probe.tls, format!("refuses a client without a certificate ({alert})"));
            }
            Some(finding @ (Finding::HandshakeRefused { .. } | Finding::ConnectionCut { .. })) if some => {
                let (version, reason) = (probe.tls, finding.to_string());
                report.findings.push(Finding::TlsVersionMissing { version, reason });
            }
            Some(Finding::HandshakeFailed { reason, .. }) if some => {
                report
                    .findings
                    .push(Finding::TlsVersionMissing { version: probe.tls, reason: reason.clone() });
            }
            Some(finding) => report.findings.push(finding.clone()),
        }
        if probe.seen.false_signature {
            report.findings.push(Finding::ServerNotKeyHolder { version: probe.tls });
        }
        if probe.seen.asked && !probe.seen.presented && !without_client {
            report.findings.push(Finding::CertificateNotSent {});
        }
    }
}

/// The answers to CONNECT.
fn tell_mqtt(probes: &[Probe], dial: &Dial, own: Option<&Chain>, report: &mut Report) {
    for probe in probes {
        let Some((version, answer)) = &probe.mqtt else { continue };
        let version = crate::start::version_name(*version);
        match answer {
            Answer::ConnAck { reason: ReasonCode::Success, terms, .. } => {
                let terms = if terms.is_empty() { String::new() } else { format!(": {}", terms.join(", ")) };
                report.fact("MQTT", format!("{version} over {}: accepted{terms}", probe.tls));
                if !probe.seen.presented {
                    report.findings.push(Finding::AnybodyMayConnect { version });
                }
            }
            Answer::ConnAck { reason, text, .. } => {
                report.findings.push(refused(version, *reason, text.as_deref(), own));
            }
            Answer::Other(first) => {
                report.findings.push(Finding::NotMqtt { version, seems: seems(first) });
            }
            Answer::Broken(Broken::TimedOut) => {
                report.findings.push(Finding::MqttSilent { version, secs: dial.step.as_secs() });
            }
            Answer::Broken(broken) => tell_broken(version, probe, broken, own, report),
        }
    }
}

fn refused(version: &'static str, reason: ReasonCode, text: Option<&str>, own: Option<&Chain>) -> Finding {
    let subject = || own.map_or_else(String::new, |chain| chain.leaf.subject.clone());
    let said = |refusal: Refusal| text.is_some_and(|text| text == refusal.to_string());
    if said(Refusal::CertificateUnknown) {
        return Finding::NotRegistered { subject: subject() };
    }
    if said(Refusal::CertificatePending) {
        return Finding::PendingActivation { subject: subject() };
    }
    if reason == ReasonCode::ClientIdentifierNotValid {
        return Finding::ClientIdBound { version };
    }
    let code = format!("0x{:02X} {}", reason as u8, reason.metric_label().replace('_', " "));
    let words = text.map_or_else(|| mqtt::words(reason).to_owned(), str::to_owned);
    Finding::ConnectRefused { version, code, words }
}

/// No CONNACK. In TLS 1.3 this is where a refused client certificate shows.
fn tell_broken(
    version: &'static str,
    probe: &Probe,
    broken: &Broken,
    own: Option<&Chain>,
    report: &mut Report,
) {
    let words = match broken {
        Broken::Alert(alert) => {
            let (name, words) = (inspect::alert_text(*alert), alert_in_words(*alert).to_owned());
            if own.is_none() {
                report.fact(probe.tls, format!("refuses a client without a certificate ({name})"));
            } else {
                report.findings.push(Finding::ClientRefused { version: probe.tls, alert: name, words });
            }
            return;
        }
        Broken::Closed | Broken::NotTls(_) | Broken::TimedOut => "the server closed it".to_owned(),
        Broken::Tls(reason) => reason.clone(),
    };
    if own.is_none() && probe.seen.asked {
        report.fact(probe.tls, "closes on a client without a certificate");
    } else {
        report.findings.push(Finding::MqttCut { version, words });
    }
}

/// What the server asks of clients, and whether the certificate at hand suits.
fn tell_requests(seen: &Seen, own: Option<&Chain>, report: &mut Report) {
    if !seen.asked {
        report.findings.push(Finding::NoCertificateAsked {});
        return;
    }
    let names = server::names(&seen.issuers);
    report.fact(
        "asks for",
        if names.is_empty() {
            "a client certificate, of any authority".to_owned()
        } else {
            format!("a client certificate signed by one of\n{}", names.join("\n"))
        },
    );
    let Some(own) = own else { return };
    let all = || std::iter::once(&own.leaf).chain(&own.rest);
    let named = |name: &Vec<u8>| all().any(|found| found.issuer_der() == name || found.subject_der() == name);
    if !seen.issuers.is_empty() && !seen.issuers.iter().any(named) {
        report.findings.push(Finding::IssuerNotAmongAsked { issuers: seen.issuers.len() });
    }
}
