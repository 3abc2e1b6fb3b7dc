//! What the broker says of a certificate: the running one over its admin socket, or what its files say when it does not run.

use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_config::Checked;
use signet_registry::Wall;

use super::args::DoctorArgs;
use super::chain::Chain;
use super::doors::{Door, distance};
use super::finding::Finding;
use super::report::Report;
use crate::admin::client::{self, AdminError};
use crate::admin::judge::{
    Court, Door as CourtDoor, JudgeCertificate, Judgement, RegistryJudgement, RightRow,
};
use crate::ca::certificate_pem;
use crate::state;
use crate::store;

/// Rights that are shown to people; `--json` has all.
const RIGHTS_SHOWN: usize = 40;

/// Asks whoever can be asked, and adds what is said to the report.
pub(super) fn ask(
    report: &mut Report,
    args: &DoctorArgs,
    config: Option<&Checked>,
    doors: &[Door],
    chain: &Chain,
    now: UnixTime,
) {
    let socket = config.map(|config| config.admin.socket.clone()).or_else(|| args.admin.named_socket());
    let running = socket.map(|socket| of_running(&socket, chain));
    let judgement = match (running, config) {
        (None, _) => return,
        (Some(Ok(mut judgement)), _) => {
            report.fact("broker", "the running broker was asked");
            let wanted = args.listener.map(|address| address.to_string());
            judgement
                .listeners
                .retain(|listener| wanted.as_ref().is_none_or(|wanted| listener.address == *wanted));
            judgement
        }
        (Some(Err(AdminError::Unreachable { .. })), Some(config)) => {
            report.fact("broker", "not running: judged by its files");
            match of_files(config, doors, chain, now, &mut report.findings) {
                Some(judgement) => judgement,
                None => return,
            }
        }
        (Some(Err(error)), _) => {
            report.findings.push(Finding::RegistryUnavailable { problem: error.to_string() });
            return;
        }
    };
    judge_registry(&judgement, chain, &mut report.findings);
    show(&judgement, now, report);
    report.judgement = Some(judgement);
}

fn presented(chain: &Chain) -> impl Iterator<Item = &CertificateDer<'static>> {
    std::iter::once(&chain.leaf).chain(&chain.rest).map(|found| &found.der)
}

fn of_running(socket: &Path, chain: &Chain) -> Result<Judgement, AdminError> {
    let wanted = JudgeCertificate { chain: presented(chain).map(|der| certificate_pem(der)).collect() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AdminError::Garbled { path: socket.to_owned(), what: error.to_string() })?;
    runtime.block_on(client::call(socket, Method::POST, "/certificates/judge", Some(&wanted)))
}

fn of_files(
    config: &Checked,
    doors: &[Door],
    chain: &Chain,
    now: UnixTime,
    findings: &mut Vec<Finding>,
) -> Option<Judgement> {
    let (policy, _) = match state::policy(config) {
        Ok(policy) => policy,
        Err(problems) => {
            findings.extend(problems.into_iter().map(|problem| Finding::ConfigUnusable { problem }));
            return None;
        }
    };
    let registry = match config.registry.directory().map(store::read_registry).transpose() {
        Ok(registry) => registry,
        Err(error) => {
            findings.push(Finding::RegistryUnavailable { problem: error.to_string() });
            return None;
        }
    };
    let at = Wall(now.as_secs().saturating_mul(1000));
    let court = Court {
        doors: doors
            .iter()
            .filter_map(|door| {
                let (settings, verifier) = (door.settings.as_ref()?, door.verifier.as_ref()?);
                Some(CourtDoor {
                    address: settings.address.to_string(),
                    verifier: Arc::clone(verifier),
                    settings: Arc::clone(settings),
                })
            })
            .collect(),
        registry: registry.as_ref().map(|registry| (registry, at)),
        seen: None,
        policy: &policy,
        config,
    };
    let presented: Vec<CertificateDer<'_>> = presented(chain).cloned().collect();
    Some(court.judge(&presented, now))
}

/// What keeps a certificate that TLS would accept from connecting.
fn judge_registry(judgement: &Judgement, chain: &Chain, findings: &mut Vec<Finding>) {
    let subject = chain.leaf.subject.clone();
    if let Some(registry) = &judgement.registry {
        let found = match registry.standing.as_str() {
            "active" => None,
            "unknown" => Some(Finding::NotRegistered { subject }),
            "admissible" => {
                let policy = registry.policy.clone().unwrap_or_default();
                Some(Finding::WillBeAdmitted { subject, policy })
            }
            "pending" => Some(Finding::PendingActivation { subject }),
            "inactive" => Some(Finding::Suspended { subject, holder: holder(registry) }),
            "revoked" => Some(Finding::RevokedInRegistry {
                subject,
                since: registry
                    .since_ms
                    .map_or_else(|| "an unknown time".to_owned(), |ms| Wall(ms).to_string()),
                reason: registry.reason.clone().unwrap_or_else(|| "unspecified".to_owned()),
            }),
            "serial_conflict" => Some(Finding::SerialConflict { subject }),
            standing => Some(Finding::RefusedByRegistry { subject, standing: standing.to_owned() }),
        };
        findings.extend(found);
    }
    if let Some(who) = judgement.who.as_ref().filter(|who| who.quarantined) {
        findings.push(Finding::Quarantined { who: format!("{} {}", who.role, who.name) });
    } else if let Some(who) = &judgement.who
        && !judgement.rights.iter().any(|right| right.access != "deny")
    {
        findings.push(Finding::NoRights { who: format!("{} {}", who.role, who.name) });
    }
}

fn holder(registry: &RegistryJudgement) -> String {
    registry.holder.clone().unwrap_or_else(|| "nobody yet".to_owned())
}

fn show(judgement: &Judgement, now: UnixTime, report: &mut Report) {
    if let Some(registry) = &judgement.registry {
        let mut text = format!("{}, {}", registry.standing.replace('_', " "), holder(registry));
        if let Some(seen) = &registry.seen {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let last = i64::try_from(seen.last_ms / 1000).unwrap_or(i64::MAX);
            text.push_str(&format!(
                "; connected {} times, last {} from {} with TLS {}",
                seen.connects,
                distance(last, now),
                seen.address,
                seen.tls
            ));
        }
        report.fact("registry", text);
    }
    let Some(who) = &judgement.who else { return };
    let groups =
        if who.groups.is_empty() { String::new() } else { format!(", in {}", who.groups.join(", ")) };
    let quarantine = if who.quarantined { ", in quarantine" } else { "" };
    report.fact("connects as", format!("{} {}{groups}{quarantine}", who.role, who.name));
    let mut lines: Vec<String> = judgement.rights.iter().take(RIGHTS_SHOWN).map(right).collect();
    let untold = judgement.rights.len().saturating_sub(RIGHTS_SHOWN) as u64 + judgement.rights_left_out;
    if untold > 0 {
        lines.push(format!("and {untold} rules more"));
    }
    lines.push(if judgement.subscribe_check {
        "may subscribe to what a receive rule covers as a whole; the first rule that matches decides"
            .to_owned()
    } else {
        "may subscribe to anything, and is sent what it may receive; the first rule that matches decides"
            .to_owned()
    });
    report.fact("rights", lines.join("\n"));
}

fn right(right: &RightRow) -> String {
    let place = if right.line == 0 { right.file.clone() } else { format!("{}:{}", right.file, right.line) };
    format!("{:<20} {}  ({}, {place})", right.access, right.filter, right.stage)
}
