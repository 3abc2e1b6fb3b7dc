//! A certificate file: the chain and key that a device would present.

use std::path::Path;

use rustls_pki_types::UnixTime;
use signet_config::Checked;

use super::args::DoctorArgs;
use super::ask::ask;
use super::certificate::{Certificate, Usage};
use super::chain::Chain;
use super::doors::{self, Door, Verdict, distance};
use super::finding::{Finding, Severity};
use super::report::Report;
use super::rules::{Rules, Use, check, check_clock, check_cost, moment, whose};
use super::{certificate, device};
use crate::cli::out::Failure;
use crate::tls::{Source, SourceProblem, inspect};

/// Looks at the certificate in the file `path`.
pub(super) fn certificate(args: &DoctorArgs, path: &Path, now: UnixTime) -> Result<Report, Failure> {
    let mut report = Report::new(&args.target);
    let config = read_config(args, &mut report)?;
    let source = Source::read(path).map_err(|error| Failure::usage(error.to_string()))?;
    let Some(chain) = read_chain(&source, &mut report.findings) else { return Ok(report.finish()) };
    describe(&chain, now, &mut report);
    if let Some(key) = &args.key {
        check_key(key, &chain.leaf, &mut report)?;
    }
    let doors = doors::doors(args, config.as_ref(), now);
    if let (Some(config), Some(address), []) = (&config, args.listener, doors.as_slice()) {
        let known: Vec<String> =
            config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        let known = known.join(", ");
        return Err(Failure::usage(format!("the configuration has no listener {address}: {known}")));
    }
    check_modified(path, now, &mut report);
    let verdicts: Vec<Verdict> = doors.iter().map(|door| door.judge(&chain, now)).collect();
    if doors.is_empty() {
        judge_alone(&chain, config.is_none() && args.admin.named_socket().is_none(), now, &mut report);
    } else {
        show_doors(&doors, &verdicts, &mut report);
    }
    check_cost(&chain.leaf, &super::chain::Path::default(), Use::Client, &mut report.findings);
    device::check_length(&chain, whose(&chain.leaf, Use::Client), &mut report.findings);
    device::check_own_message(&chain, &mut report.findings);
    fitness(&chain, &doors, &mut report);
    ask(&mut report, args, config.as_ref(), &doors, &chain, now);
    last_word(&doors, &verdicts, &mut report);
    Ok(report.finish())
}

/// The configuration, when one is named; one that is wrong is a finding.
pub(super) fn read_config(args: &DoctorArgs, report: &mut Report) -> Result<Option<Checked>, Failure> {
    let Some(path) = &args.admin.config else { return Ok(None) };
    if !path.exists() {
        return Err(Failure::usage(format!("{}: there is no such file", path.display())));
    }
    match signet_config::load(path) {
        Ok(config) => Ok(Some(config)),
        Err(problems) => {
            let problem =
                |problem: &signet_config::Problem| Finding::ConfigUnusable { problem: problem.to_string() };
            report.findings.extend(problems.iter().map(problem));
            Ok(None)
        }
    }
}

/// The certificates of a file, in order.
pub(super) fn read_chain(source: &Source, findings: &mut Vec<Finding>) -> Option<Chain> {
    let found = match inspect::certificates(source) {
        Ok(found) => found,
        Err(error) => {
            let (place, reason) = (error.file.clone(), error.problem.to_string());
            findings.push(Finding::CertificateUnreadable { place, reason });
            return None;
        }
    };
    let mut certificates = Vec::with_capacity(found.len());
    for (der, number) in found.iter().zip(1..) {
        match Certificate::read(der) {
            Ok(certificate) => certificates.push(certificate),
            Err(reason) => {
                let place = format!("{}: certificate number {number}", source.file);
                findings.push(Finding::CertificateUnreadable { place, reason });
            }
        }
    }
    Chain::new(certificates, findings)
}

fn describe(chain: &Chain, now: UnixTime, report: &mut Report) {
    let leaf = &chain.leaf;
    report.fact("certificate", format!("{}, serial {}", leaf.subject, leaf.serial));
    report.fact("id", leaf.id.to_string());
    report.fact("issuer", leaf.issuer.clone());
    report.fact("valid", validity(leaf, now));
    report.fact("key", leaf.key.words());
    report.fact("for", purposes(leaf));
    let names = leaf.common_names.iter().map(|name| format!("CN:{name}"));
    let names: Vec<String> = names.chain(leaf.alternative_names.iter().cloned()).collect();
    report.fact("names", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
}

/// From when to when, and how far away that is.
pub(super) fn validity(certificate: &Certificate, now: UnixTime) -> String {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    format!(
        "{} to {} ({})",
        moment(certificate.not_before),
        moment(certificate.not_after),
        distance(certificate.not_after, now)
    )
}

fn purposes(leaf: &Certificate) -> String {
    let usage = leaf.usage.map_or_else(|| "no key usage".to_owned(), Usage::words);
    let purposes = leaf.purposes.as_ref();
    format!(
        "{}; {usage}",
        purposes.map_or_else(|| "no extended key usage".to_owned(), certificate::Purposes::words)
    )
}

fn check_key(path: &Path, leaf: &Certificate, report: &mut Report) -> Result<(), Failure> {
    let source = Source::read(path).map_err(|error| Failure::usage(error.to_string()))?;
    // What is wrong with the file's mode does not keep the key from being compared.
    if let Err(error) = Source::read_private(path)
        && matches!(error.problem, SourceProblem::KeyReadable { .. })
    {
        report.findings.push(Finding::KeyExposed { problem: error.to_string() });
    }
    let key = match inspect::signing_key(&source) {
        Ok(key) => key,
        Err(error) => {
            report.findings.push(Finding::KeyUnusable { problem: error.to_string() });
            return Ok(());
        }
    };
    let (file, subject) = (path.display().to_string(), leaf.subject.clone());
    match key.public_key() {
        Some(public) if public.as_ref() == leaf.spki() => {
            report.fact("private key", format!("{file} is the key of this certificate"));
        }
        _ => report.findings.push(Finding::KeyMismatch { key: file, subject }),
    }
    Ok(())
}

/// A file that is younger than now has another clock than this machine now.
fn check_modified(path: &Path, now: UnixTime, report: &mut Report) {
    const TOLERATED_SECS: i64 = 86_400;
    let modified = std::fs::metadata(path).and_then(|found| found.modified()).ok();
    let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let Some(at) = since.and_then(|since| i64::try_from(since.as_secs()).ok()) else { return };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let others = [("the certificate's file was written".to_owned(), at.saturating_sub(TOLERATED_SECS))];
    check_clock(&super::chain::Path::default(), &others, now, &mut report.findings);
}

/// Without anybody who trusts anything: what can be said of the file alone.
fn judge_alone(chain: &Chain, nobody_asked: bool, now: UnixTime, report: &mut Report) {
    let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let path = chain.climb(&[], &mut report.findings);
    check(&chain.leaf, &path, &Rules::strict(Use::Client), secs, &mut report.findings);
    check_clock(&path, &[], secs, &mut report.findings);
    if nobody_asked {
        report.findings.push(Finding::NoTrustAnchor {});
    }
}

/// What each door says. Where one of them accepts the certificate, the others are notes.
fn show_doors(doors: &[Door], verdicts: &[Verdict], report: &mut Report) {
    let good = |verdict: &Verdict| {
        verdict.refused.is_none()
            && verdict.findings.iter().all(|finding| finding.kind().severity != Severity::Error)
    };
    let accepted = verdicts.iter().any(good);
    for (door, verdict) in doors.iter().zip(verdicts) {
        let mut text = match &verdict.refused {
            None if good(verdict) => format!("{} accepts it", door.label),
            _ => format!("{} does not accept it", door.label),
        };
        for (index, subject) in verdict.path.iter().enumerate() {
            text.push_str(&format!("\n{:indent$}signed by {subject}", "", indent = index + 1));
        }
        for list in &verdict.lists {
            text.push_str(&format!("\nrevocation list of {list}"));
        }
        if verdict.lists.is_empty() {
            text.push_str("\nno revocation list was given");
        }
        report.fact("chain", text);
        if accepted && !good(verdict) {
            let errors = verdict.findings.iter().filter(|found| found.kind().severity == Severity::Error);
            let reason = verdict.refused.clone().or_else(|| errors.map(ToString::to_string).next());
            let (listener, reason) = (door.label.clone(), reason.unwrap_or_default());
            report.findings.push(Finding::OtherListenerRefuses { listener, reason });
        } else {
            report.findings.extend(verdict.findings.iter().cloned());
        }
    }
}

fn fitness(chain: &Chain, doors: &[Door], report: &mut Report) {
    let bits = match chain.leaf.key {
        certificate::Key::Rsa(bits) => Some(bits),
        _ => None,
    };
    report.heap = device::estimates(chain.bytes(), bits);
    let mut text = format!(
        "{} certificates, {} bytes to send ({} as a message)\n{}",
        chain.certificates(),
        chain.bytes(),
        device::certificate_message_bytes(chain),
        heap_in_words(&report.heap)
    );
    let largest = doors.iter().filter_map(|door| Some(door.settings.as_ref()?.fragment_bytes_max)).max();
    if let Some(largest) = largest {
        text.push_str(&format!(
            "\nthe broker's records hold up to {largest} bytes (max-fragment-size), less for a device that asks for less"
        ));
    }
    report.fact("on an ESP32", text);
}

/// The estimates, a line each.
pub(super) fn heap_in_words(heap: &[device::Heap]) -> String {
    let line = |heap: &device::Heap| {
        format!(
            "about {} kB of heap for TLS and MQTT with buffers of {} bytes in and {} out (estimate, Mbed TLS 3)",
            heap.heap.div_ceil(1000),
            heap.in_buffer,
            heap.out_buffer
        )
    };
    heap.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The broker's verifier has the last word: what it refuses must not be called good.
fn last_word(doors: &[Door], verdicts: &[Verdict], report: &mut Report) {
    let has_error =
        |report: &Report| report.findings.iter().any(|finding| finding.kind().severity == Severity::Error);
    if has_error(report) {
        return;
    }
    let here: Vec<(String, String)> = doors
        .iter()
        .zip(verdicts)
        .filter_map(|(door, verdict)| Some((door.label.clone(), verdict.refused.clone()?)))
        .collect();
    let there = report.judgement.iter().flat_map(|judgement| &judgement.listeners).filter_map(|listener| {
        Some((format!("the listener {}", listener.address), listener.refusal()?.to_owned()))
    });
    let there: Vec<(String, String)> = there.collect();
    let judged = report.judgement.as_ref().map_or(0, |judgement| judgement.listeners.len());
    let refused_by_all =
        (!here.is_empty() && here.len() == doors.len()) || (judged > 0 && there.len() == judged);
    for (listener, reason) in here.into_iter().chain(there) {
        let known = report.findings.iter().any(|finding| {
            matches!(finding, Finding::OtherListenerRefuses { listener: known, .. } if *known == listener)
        });
        if refused_by_all {
            report.findings.push(Finding::ListenerRefuses { listener, reason });
        } else if !known {
            report.findings.push(Finding::OtherListenerRefuses { listener, reason });
        }
    }
}
