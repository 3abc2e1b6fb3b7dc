//! Whom a certificate is judged by: the listeners of a configuration, or the authorities of the command line.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use signet_config::{Checked, Listener};

use super::args::DoctorArgs;
use super::certificate::Certificate;
use super::chain::{Chain, Path};
use super::finding::Finding;
use super::rules::{Rules, Use, check, check_clock, moment};
use crate::state;
use crate::tls::{
    ChainCache, CrlInfo, DeviceVerifier, Source, SourceError, StaleCrl, Trust, TrustOptions, TrustWarning,
    VerifyFailure, in_words, inspect,
};

/// One listener, or what the command line says instead.
pub(super) struct Door {
    /// How messages call it.
    pub(super) label: String,
    /// Its settings, when it is a listener.
    pub(super) settings: Option<Arc<Listener>>,
    /// Its trust, when that can be built at all.
    pub(super) verifier: Option<Arc<DeviceVerifier>>,
    anchors: Vec<Certificate>,
    rules: Rules,
    /// What is wrong with its files.
    problems: Vec<Finding>,
}

/// What a door says of a certificate.
pub(super) struct Verdict {
    /// Everything that is wrong.
    pub(super) findings: Vec<Finding>,
    /// What the verifier itself said.
    pub(super) refused: Option<String>,
    /// The authorities above the certificate, by their subjects.
    pub(super) path: Vec<String>,
    /// The revocation lists that were looked at, in words.
    pub(super) lists: Vec<String>,
}

/// The doors that the arguments speak of; none when they name no authority at all.
pub(super) fn doors(args: &DoctorArgs, config: Option<&Checked>, now: UnixTime) -> Vec<Door> {
    let Some(config) = config else {
        if args.ca.is_empty() {
            return Vec::new();
        }
        let rules = Rules::strict(Use::Client);
        let options = TrustOptions::default();
        return vec![Door::new("--ca".to_owned(), None, &args.ca, &args.crl, (options, rules), now)];
    };
    let wanted = |listener: &&Listener| args.listener.is_none_or(|address| listener.address == address);
    let listeners = config.listeners.iter().filter(wanted);
    let door = |listener: &Listener| {
        let options = state::tls_options(config, listener).trust;
        let rules = Rules {
            used: Use::Client,
            eku: options.eku,
            x509_v1: options.x509_v1,
            source: listener.identity,
            names: listener.names.clone(),
        };
        let ca = if args.ca.is_empty() { &listener.client_ca } else { &args.ca };
        let crl = if args.crl.is_empty() { &listener.crl } else { &args.crl };
        let label = format!("the listener {}", listener.address);
        Door::new(label, Some(Arc::new(listener.clone())), ca, crl, (options, rules), now)
    };
    listeners.map(door).collect()
}

impl Door {
    fn new(
        label: String,
        settings: Option<Arc<Listener>>,
        ca: &[PathBuf],
        crl: &[PathBuf],
        (options, rules): (TrustOptions, Rules),
        now: UnixTime,
    ) -> Self {
        let mut problems = Vec::new();
        let ca = read_all(ca, &mut problems, |problem| Finding::CaUnusable { problem });
        let crl = read_all(crl, &mut problems, |problem| Finding::CrlUnusable { problem });
        let anchors = anchors(&ca, &mut problems);
        let verifier = trust(&ca, &crl, options, now, &mut problems)
            .map(|trust| Arc::new(DeviceVerifier::new(Arc::new(trust), Arc::<ChainCache>::default())));
        Self { label, settings, verifier, anchors, rules, problems }
    }

    /// Judges a chain: everything that is wrong with it, not only the first thing.
    pub(super) fn judge(&self, chain: &Chain, now: UnixTime) -> Verdict {
        let mut findings = self.problems.clone();
        let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let path = chain.climb(&self.anchors, &mut findings);
        check(&chain.leaf, &path, &self.rules, secs, &mut findings);
        let trust = self.verifier.as_ref().map(|verifier| verifier.trust());
        if let Some(trust) = &trust {
            self.check_lists(trust, chain, &path, now, &mut findings);
        }
        let issued = trust
            .iter()
            .flat_map(|trust| trust.crls())
            .map(|list| (format!("the revocation list of \"{}\" was made", list.issuer), list.this_update));
        check_clock(&path, &issued.collect::<Vec<_>>(), secs, &mut findings);
        let presented: Vec<CertificateDer<'_>> =
            std::iter::once(&chain.leaf).chain(&chain.rest).map(|found| found.der.clone()).collect();
        let verdict = self.verifier.as_ref().map(|verifier| verifier.judge(&presented, now));
        Verdict {
            refused: verdict.and_then(|verdict| verdict.err()).map(|failure| failure.to_string()),
            path: path.authorities.iter().map(|authority| authority.subject.clone()).collect(),
            lists: trust.iter().flat_map(|trust| trust.crls()).map(|list| list_in_words(&list)).collect(),
            findings,
        }
    }

    fn check_lists(
        &self,
        trust: &Trust,
        chain: &Chain,
        path: &Path<'_>,
        now: UnixTime,
        findings: &mut Vec<Finding>,
    ) {
        // Of a chain that nobody trusts no list has anything to say.
        if trust.crls().next().is_none() || !path.trusted || path.authorities.is_empty() {
            return;
        }
        let below = std::iter::once(&chain.leaf).chain(path.authorities.iter().copied());
        let steps: Vec<_> = below
            .zip(&path.authorities)
            .map(|(certificate, signer)| (&certificate.der, signer.spki()))
            .collect();
        let whose = || format!("the certificate \"{}\", or an authority above it,", chain.leaf.subject);
        findings.push(match inspect::check_revocation(trust, &steps, now) {
            Ok(()) | Err(VerifyFailure::Unparsable { .. }) => return,
            Err(VerifyFailure::Revoked { which: crate::tls::Which::Leaf, issuer }) => {
                Finding::Revoked { whose: super::rules::whose(&chain.leaf, Use::Client), list: issuer }
            }
            Err(VerifyFailure::Revoked { issuer, .. }) => Finding::Revoked { whose: whose(), list: issuer },
            Err(VerifyFailure::CrlStale { issuer, next_update, .. }) => {
                let at = moment(i64::try_from(next_update).unwrap_or(i64::MAX));
                Finding::CrlStale { issuer, at }
            }
            Err(VerifyFailure::CrlMissing { .. }) => {
                Finding::CrlMissing { issuer: chain.leaf.issuer.clone() }
            }
            Err(other) => {
                Finding::ListenerRefuses { listener: self.label.clone(), reason: other.to_string() }
            }
        });
    }
}

fn list_in_words(list: &CrlInfo) -> String {
    let end = list
        .next_update
        .map_or_else(|| "without end".to_owned(), |end| format!("good until {}", moment(end)));
    format!("\"{}\", {} entries, {end} ({})", list.issuer, list.entries, list.file)
}

fn read_all(
    paths: &[PathBuf],
    problems: &mut Vec<Finding>,
    problem: impl Fn(String) -> Finding,
) -> Vec<Source> {
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        match Source::read(path) {
            Ok(source) => sources.push(source),
            Err(error) => problems.push(problem(error.to_string())),
        }
    }
    sources
}

/// The authorities in these files, for climbing. What is wrong with them is found when the trust is built.
fn anchors(sources: &[Source], problems: &mut Vec<Finding>) -> Vec<Certificate> {
    let mut anchors = Vec::new();
    for source in sources {
        let found = match inspect::certificates(source) {
            Ok(found) => found,
            Err(error) => {
                problems.push(Finding::CaUnusable { problem: error.to_string() });
                continue;
            }
        };
        anchors.extend(found.iter().filter_map(|der| Certificate::read(der).ok()));
    }
    anchors
}

/// What the broker would build of these files, as far as it can be built: without the lists that are no good.
fn trust(
    ca: &[Source],
    crl: &[Source],
    options: TrustOptions,
    now: UnixTime,
    problems: &mut Vec<Finding>,
) -> Option<Trust> {
    if ca.is_empty() {
        return None;
    }
    let of_lists = |error: &SourceError| crl.iter().any(|source| source.file == error.file);
    match inspect::trust(ca, crl, options, now) {
        Ok((trust, warnings)) => {
            problems.extend(warnings.into_iter().filter_map(|warning| doubt(warning, options)));
            Some(trust)
        }
        Err(errors) => {
            for error in &errors {
                let problem = error.to_string();
                let known = Finding::CaUnusable { problem: problem.clone() };
                problems.push(if of_lists(error) { Finding::CrlUnusable { problem } } else { known });
            }
            let only_lists = errors.iter().all(of_lists);
            let without = || inspect::trust(ca, &[], options, now).ok().map(|(trust, _)| trust);
            if only_lists { without() } else { None }
        }
    }
}

/// What a doubt about the trust is called. Anchors that have expired are found on the path; a stale list that makes the
/// listener refuse is an error already.
fn doubt(warning: TrustWarning, options: TrustOptions) -> Option<Finding> {
    match warning {
        TrustWarning::AnchorRevoked { .. } => Some(Finding::CaUnusable { problem: warning.to_string() }),
        TrustWarning::CrlStale { .. } if options.stale == StaleCrl::Reject => None,
        TrustWarning::CrlStale { .. }
        | TrustWarning::CrlDue { .. }
        | TrustWarning::CrlFromTheFuture { .. }
        | TrustWarning::CrlSuperseded { .. } => Some(Finding::CrlDoubtful { problem: warning.to_string() }),
        _ => None,
    }
}

/// How long until `secs`, or since when, in words; for facts.
pub(super) fn distance(secs: i64, now: i64) -> String {
    if secs < now { format!("{} ago", in_words(now - secs)) } else { format!("in {}", in_words(secs - now)) }
}
