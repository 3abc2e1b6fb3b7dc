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
        let files = Files::read(&args.ca, &args.crl, None);
        return vec![Door::new("--ca".to_owned(), None, files, rules, now)];
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
        let mut files = Files::read(ca, crl, Some(&listener.certificate));
        files.options = options;
        files.stale_by_issuer = state::stale_by_issuer(listener);
        let label = format!("the listener {}", listener.address);
        Door::new(label, Some(Arc::new(listener.clone())), files, rules, now)
    };
    listeners.map(door).collect()
}

/// What a door's trust is built of.
struct Files {
    ca: Vec<Source>,
    crl: Vec<Source>,
    /// The server's chain, in which the signer of a list may be.
    beside: Option<Source>,
    options: TrustOptions,
    stale_by_issuer: Vec<(String, StaleCrl)>,
    /// Files that cannot be read.
    problems: Vec<Finding>,
}

impl Files {
    fn read(ca: &[PathBuf], crl: &[PathBuf], beside: Option<&PathBuf>) -> Self {
        let mut problems = Vec::new();
        Self {
            ca: read_all(ca, &mut problems, |problem| Finding::CaUnusable { problem }),
            crl: read_all(crl, &mut problems, |problem| Finding::CrlUnusable { problem }),
            beside: beside.and_then(|path| Source::read(path).ok()),
            options: TrustOptions::default(),
            stale_by_issuer: Vec::new(),
            problems,
        }
    }
}

impl Door {
    fn new(
        label: String,
        settings: Option<Arc<Listener>>,
        mut files: Files,
        rules: Rules,
        now: UnixTime,
    ) -> Self {
        let mut problems = std::mem::take(&mut files.problems);
        let anchors = anchors(&files.ca, &mut problems);
        let verifier = trust(&files, now, &mut problems)
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
        let found = match inspect::check_revocation(trust, &steps, now) {
            Ok(()) | Err(VerifyFailure::Unparsable { .. }) => return,
            Err(VerifyFailure::Revoked { which: crate::tls::Which::Leaf, issuer }) => {
                Finding::Revoked { whose: super::rules::whose(&chain.leaf, Use::Client), list: issuer }
            }
            Err(VerifyFailure::Revoked { issuer, .. }) => Finding::Revoked { whose: whose(), list: issuer },
            Err(VerifyFailure::CrlStale { issuer, next_update, .. }) => {
                // The error says it all.
                findings.retain(
                    |found| !matches!(found, Finding::CrlDoubtful { problem } if problem.contains(&issuer)),
                );
                let at = moment(i64::try_from(next_update).unwrap_or(i64::MAX));
                Finding::CrlStale { issuer, at }
            }
            Err(VerifyFailure::CrlMissing { .. }) => {
                Finding::CrlMissing { issuer: chain.leaf.issuer.clone() }
            }
            Err(other) => {
                Finding::ListenerRefuses { listener: self.label.clone(), reason: other.to_string() }
            }
        };
        findings.push(found);
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
fn trust(files: &Files, now: UnixTime, problems: &mut Vec<Finding>) -> Option<Trust> {
    if files.ca.is_empty() {
        return None;
    }
    let load = |crl: &[Source]| {
        let stale = (files.options, files.stale_by_issuer.as_slice());
        inspect::trust(&files.ca, crl, files.beside.as_ref(), stale, now)
    };
    let of_lists = |error: &SourceError| files.crl.iter().any(|source| source.file == error.file);
    match load(&files.crl) {
        Ok((trust, warnings)) => {
            problems.extend(warnings.iter().filter_map(doubt));
            Some(trust)
        }
        Err(errors) => {
            for error in &errors {
                let problem = error.to_string();
                let known = Finding::CaUnusable { problem: problem.clone() };
                problems.push(if of_lists(error) { Finding::CrlUnusable { problem } } else { known });
            }
            let only_lists = errors.iter().all(of_lists);
            if only_lists { load(&[]).ok().map(|(trust, _)| trust) } else { None }
        }
    }
}

/// What a doubt about the trust is called. Anchors that have expired are found on the path.
fn doubt(warning: &TrustWarning) -> Option<Finding> {
    match warning {
        TrustWarning::AnchorRevoked { .. } => Some(Finding::CaUnusable { problem: warning.to_string() }),
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
