//! The client verifier against the cases of x509-limbo: `cargo run -p signet --example limbo -- limbo.json`.
//!
//! The file is made by x509-limbo's own generator; `broker/docs/verifier-cases.md` says how, and why some cases do not apply
//! here. Each case is judged as a client's certificate at the moment that it gives. Exit code 1 when a case that must fail
//! was accepted, or one that must succeed was refused, and the table below does not say why.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use signet::tls::{ChainCache, CrlCoverage, DeviceVerifier, Source, Trust, TrustOptions};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: String,
    #[serde(default)]
    crls: Vec<String>,
}

/// Where we differ on purpose: why, and what the names of the cases begin with.
const EXPLAINED: &[(&str, &[&str])] = &[
    (
        "the name of a server is not looked for in a client's certificate: its identity is another rule",
        &["webpki::san::", "webpki::cn::", "rfc5280::san::underscore-dns", "rfc5280::san::ip-in-dns"],
    ),
    (
        "a rule for who issues, which changes nothing for who relies on it",
        &[
            "rfc5280::aki::",
            "rfc5280::ski::",
            "webpki::aki::root-with-aki",
            "crl::crlnumber-",
            "rfc5280::san::noncritical-with-empty-subject",
            "rfc5280::serial::zero",
            "rfc5280::ca-empty-subject",
            "rfc5280::root-non-critical-basic-constraints",
            "webpki::eku::root-has-eku",
            "webpki::malformed-aia",
            "webpki::forbidden-rsa-",
            "rfc5280::pc::ica-noncritical-pc",
            "rfc5280::nc::permitted-dns-match-noncritical",
            "rfc5280::nc::not-allowed-in-ee-",
            "webpki::nc::intermediate-permitted-excluded-subtrees-both-",
            "rfc5280::nc::invalid-dnsname-leading-period",
        ],
    ),
    (
        "an anchor is named by the operator: its name, key and name constraints count, and not its other extensions",
        &["rfc5280::unknown-critical-extension-root"],
    ),
    (
        "it is not an authority without CA:TRUE, whatever its key usage says, so this grants nothing",
        &["rfc5280::leaf-ku-keycertsign"],
    ),
    (
        "stricter here: an authority does not connect as a client",
        &["rfc5280::ca-as-leaf", "pathlen::validation-ignores-pathlen-in-leaf"],
    ),
    ("stricter here: at most 8 certificates are looked at", &["cve::cve-2024-0567"]),
    (
        "stricter here: a certificate without extended key usage needs require-client-auth-eku = false",
        &["rfc5280::eku::ee-without-eku"],
    ),
    (
        "stricter here: constraints on e-mail addresses and directory names are not evaluated, so they permit nobody",
        &["rfc5280::nc::permitted-dn-match", "rfc5280::nc::nc-permits-email-"],
    ),
    (
        "stricter here: a self-issued authority in the middle of a path leads nowhere",
        &["pathlen::self-issued-certs-pathlen", "rfc5280::nc::permitted-self-issued"],
    ),
    ("the depth of a path is not a parameter here", &["pathlen::max-chain-depth-"]),
    ("it uses clientAuth as what is wrong for a server", &["rfc5280::eku::ee-wrong-eku"]),
];

/// The reason for a refusal; `None` when the certificate was accepted.
fn judge(case: &Case) -> Option<String> {
    let sources =
        |texts: &[String]| texts.iter().map(|text| Source::new("case", text.as_str())).collect::<Vec<_>>();
    let time = case.validation_time.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let seconds = time.unwrap_or_else(OffsetDateTime::now_utc).unix_timestamp();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    let options = TrustOptions { coverage: CrlCoverage::IfPresent, ..TrustOptions::default() };
    let anchors = sources(&case.trusted_certs);
    let lists = sources(&case.crls);
    let beside = Source::new("chain", case.untrusted_intermediates.concat());
    let beside = (!case.untrusted_intermediates.is_empty()).then_some(&beside);
    let trust = match Trust::load(&anchors, (&lists, &[]), beside, options, None, now) {
        Ok((trust, _)) => Arc::new(trust),
        Err(errors) => return Some(format!("not loaded: {}", errors[0])),
    };
    let verifier = DeviceVerifier::new(trust, Arc::new(ChainCache::default()));
    let texts = std::iter::once(&case.peer_certificate).chain(&case.untrusted_intermediates);
    let chain: Result<Vec<_>, _> =
        texts.map(|text| CertificateDer::from_pem_slice(text.as_bytes())).collect();
    match chain {
        Ok(chain) => verifier.judge(&chain, now).err().map(|failure| failure.to_string()),
        Err(error) => Some(format!("not PEM: {error}")),
    }
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let Some(path) = std::env::args().nth(1) else {
        let _ = writeln!(out, "usage: limbo FILE");
        return ExitCode::from(2);
    };
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let limbo: Limbo = match serde_json::from_str(&text) {
        Ok(limbo) => limbo,
        Err(error) => {
            let _ = writeln!(out, "{path}: {error}");
            return ExitCode::from(2);
        }
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut unexplained = 0;
    for case in &limbo.testcases {
        let refused = judge(case);
        let agrees = (case.expected_result == "SUCCESS") == refused.is_none();
        let explained = EXPLAINED.iter().find(|(_, ids)| ids.iter().any(|id| case.id.starts_with(id)));
        let key = match (agrees, explained) {
            (true, _) => format!("agree: {}", case.expected_result),
            (false, Some((why, _))) => format!("differ: {why}"),
            (false, None) => {
                unexplained += 1;
                let got = refused.unwrap_or_else(|| "accepted".to_owned());
                let _ = writeln!(out, "{}: expected {}, got: {got}", case.id, case.expected_result);
                "DIFFER, UNEXPLAINED".to_owned()
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    for (what, count) in counts {
        let _ = writeln!(out, "{count:4} {what}");
    }
    if unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
