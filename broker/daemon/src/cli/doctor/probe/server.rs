//! The server's certificate: who signed it, for which name it is, and what it costs a device.

use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::super::args::DoctorArgs;
use super::super::certificate::{Certificate, Key};
use super::super::chain::Chain;
use super::super::device;
use super::super::finding::{Finding, Severity};
use super::super::presented::{heap_in_words, validity};
use super::super::report::Report;
use super::super::rules::{Rules, Use, check, check_clock, check_cost, whose};
use super::link::Seen;
use crate::cli::out::Failure;
use crate::tls::{Source, inspect};

/// Judges what the server presented.
pub(super) fn judge(
    seen: &Seen,
    name: &str,
    asked: &ServerName<'_>,
    args: &DoctorArgs,
    now: UnixTime,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut certificates = Vec::with_capacity(seen.chain.len());
    for (der, number) in seen.chain.iter().zip(1..) {
        match Certificate::read(der) {
            Ok(certificate) => certificates.push(certificate),
            Err(reason) => {
                let place = format!("the server's certificate number {number}");
                report.findings.push(Finding::CertificateUnreadable { place, reason });
            }
        }
    }
    let Some(chain) = Chain::new(certificates, &mut report.findings) else { return Ok(()) };
    report.fact("server", format!("{}, serial {}", chain.leaf.subject, chain.leaf.serial));
    report.fact("valid", validity(&chain.leaf, now));
    let anchors = anchors(args, report)?;
    if args.ca.is_empty() {
        report.findings.push(Finding::NoTrustAnchor {});
    }
    let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut findings = Vec::new();
    let path = chain.climb(&anchors, &mut findings);
    check(&chain.leaf, &path, &Rules::strict(Use::Server), secs, &mut findings);
    check_clock(&path, &[], secs, &mut findings);
    check_name(&chain.leaf, name, asked, &mut findings);
    last_word(&chain, &anchors, now, &mut findings);
    check_cost(&chain.leaf, &path, Use::Server, &mut findings);
    device::check_length(&chain, whose(&chain.leaf, Use::Server), &mut findings);
    let mut text = if path.trusted { "trusted".to_owned() } else { "not known to be trusted".to_owned() };
    for (index, authority) in path.authorities.iter().enumerate() {
        text.push_str(&format!("\n{:indent$}signed by {}", "", authority.subject, indent = index + 1));
    }
    report.fact("chain", text);
    report.findings.extend(findings);
    let bits = match chain.leaf.key {
        Key::Rsa(bits) => Some(bits),
        _ => None,
    };
    report.heap = device::estimates(chain.bytes(), bits);
    report.fact(
        "on an ESP32",
        format!(
            "{} certificates, {} bytes to receive ({} as a message)\n{}",
            chain.certificates(),
            chain.bytes(),
            device::certificate_message_bytes(&chain),
            heap_in_words(&report.heap)
        ),
    );
    Ok(())
}

fn anchors(args: &DoctorArgs, report: &mut Report) -> Result<Vec<Certificate>, Failure> {
    let mut anchors = Vec::new();
    for path in &args.ca {
        let source = Source::read(path).map_err(|error| Failure::usage(error.to_string()))?;
        match inspect::certificates(&source) {
            Ok(found) => anchors.extend(found.iter().filter_map(|der| Certificate::read(der).ok())),
            Err(error) => report.findings.push(Finding::CaUnusable { problem: error.to_string() }),
        }
    }
    Ok(anchors)
}

/// Whether the certificate is for the name that is connected to (RFC 6125; RFC 9525).
fn check_name(leaf: &Certificate, name: &str, asked: &ServerName<'_>, findings: &mut Vec<Finding>) {
    let named = leaf.alternative_names.iter().any(|has| has.starts_with("DNS:") || has.starts_with("IP:"));
    if !named && leaf.common_names.iter().any(|common| common.eq_ignore_ascii_case(name)) {
        findings.push(Finding::ServerNameInCn { name: name.to_owned() });
        return;
    }
    let der = CertificateDer::from(leaf.der.as_ref());
    // A certificate of version 1 has no names besides the common one.
    let good =
        ParsedCertificate::try_from(&der).is_ok_and(|parsed| verify_server_name(&parsed, asked).is_ok());
    if !good {
        let has = if named {
            leaf.alternative_names.join(", ")
        } else {
            format!("nothing but its common name \"{}\"", leaf.common_names.join(", "))
        };
        findings.push(Finding::WrongServerName { name: name.to_owned(), has });
    }
}

/// A TLS client has the last word: what it refuses must not be called good.
fn last_word(chain: &Chain, anchors: &[Certificate], now: UnixTime, findings: &mut Vec<Finding>) {
    let known = findings.iter().any(|finding| finding.kind().severity == Severity::Error);
    // webpki does not read version 1, about which something has been said.
    if known || anchors.is_empty() || chain.leaf.version_one {
        return;
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(anchors.iter().map(|anchor| anchor.der.clone()));
    let rest: Vec<CertificateDer<'_>> = chain.rest.iter().map(|found| found.der.clone()).collect();
    let refused = match ParsedCertificate::try_from(&chain.leaf.der) {
        Ok(parsed) => verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots,
            &rest,
            now,
            inspect::provider().signature_verification_algorithms.all,
        )
        .err(),
        Err(error) => Some(error),
    };
    if let Some(error) = refused {
        findings.push(Finding::ServerRefused { reason: error.to_string() });
    }
}

/// Distinguished names, for people.
pub(super) fn names(issuers: &[Vec<u8>]) -> Vec<String> {
    let name = |der: &Vec<u8>| match X509Name::from_der(der) {
        Ok((_, name)) => name.to_string().chars().flat_map(char::escape_default).take(256).collect(),
        Err(_) => "a name that cannot be read".to_owned(),
    };
    issuers.iter().map(name).collect()
}
