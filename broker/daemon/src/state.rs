//! Everything that a configuration names, built and tried before any of it is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use signet_acl::Policy;
use signet_config::{Checked, Https, Listener};

use crate::ca::CERTIFICATE_FILE;
use crate::clock::{self, Judge};
use crate::portions::give_way;
use crate::tls::{
    Editions, EkuRule, Inside, ListenerSources, SourceError, StaleCrl, TlsListener, TlsOptions, TlsVersions,
    TrustOptions, X509V1,
};

/// The largest policy file, in bytes.
const POLICY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A state that works, not yet in force.
#[derive(Debug)]
pub struct Built {
    /// The policy.
    pub policy: Policy,
    /// The SHA-256 of the policy file.
    pub policy_hash: Digest,
    /// TLS of each listener, in the order of the configuration.
    pub listeners: Vec<Arc<TlsListener>>,
    /// TLS of each `[[https]]`, in the order of the configuration.
    pub https: Vec<Arc<TlsListener>>,
    /// Doubtful things that do not stop it.
    pub warnings: Vec<String>,
    /// Of the content of all files that went into it.
    pub digest: Digest,
    /// By whose time handshakes are judged.
    pub judge: Arc<Judge>,
}

/// SHA-256 over the names and contents of files.
pub type Digest = [u8; 32];

/// Everything that is wrong with the files of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct BuildError {
    /// One sentence each.
    pub problems: Vec<String>,
}

/// Reads every file and builds everything, or says everything that is wrong. `previous` is what is in force, of the
/// listeners and then of `[[https]]`: revocation lists may not go back behind it, and not behind `seen`. Handshakes will be
/// judged by the time of `judge`.
pub fn build(
    config: &Checked,
    previous: Option<&[Arc<TlsListener>]>,
    seen: &Editions,
    judge: &Arc<Judge>,
) -> Result<Built, BuildError> {
    let digest = digest_of(&files_of(config));
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let policy = match hashed_policy(config) {
        Ok((policy, hash, doubts)) => {
            warnings.extend(doubts);
            Some((policy, hash))
        }
        Err(wrong) => {
            problems.extend(wrong);
            None
        }
    };
    if let Some((policy, _)) = &policy {
        problems.extend(client_id_conflicts(config, policy));
    }
    let plans = config
        .listeners
        .iter()
        .map(|listener| plan_of_listener(config, listener))
        .chain(config.https.iter().map(|door| plan_of_https(config, door)));
    let mut all = Vec::new();
    let plans: Vec<_> = plans.map(|plan| plan.judged_by(judge)).collect();
    let mut sources = Vec::new();
    for plan in &plans {
        give_way();
        match ListenerSources::read(plan.certificate, plan.private_key, plan.client_ca, plan.crl) {
            Ok(read) => sources.push(Some(read)),
            Err(wrong) => {
                problems.extend(sentences(&wrong));
                sources.push(None);
            }
        }
    }
    let lists: Vec<_> = sources.iter().flatten().flat_map(|sources| sources.crl.iter().cloned()).collect();
    for (index, (plan, sources)) in plans.iter().zip(sources).enumerate() {
        let Some(mut sources) = sources else { continue };
        give_way();
        sources.crl_elsewhere.clone_from(&lists);
        let in_force = previous.and_then(|all| all.get(index)).map(Arc::as_ref);
        match tls(plan, sources, in_force, seen) {
            Ok((built, doubts)) => {
                warnings.extend(doubts);
                all.push(Arc::new(built));
            }
            Err(wrong) => problems.extend(wrong),
        }
    }
    problems.sort();
    problems.dedup();
    match policy {
        Some((policy, policy_hash)) if problems.is_empty() => {
            let https = all.split_off(config.listeners.len());
            let judge = Arc::clone(judge);
            Ok(Built { policy, policy_hash, listeners: all, https, warnings, digest, judge })
        }
        _ => Err(BuildError { problems }),
    }
}

/// Reads and compiles the policy.
pub fn policy(config: &Checked) -> Result<(Policy, Vec<String>), Vec<String>> {
    hashed_policy(config).map(|(policy, _, warnings)| (policy, warnings))
}

fn hashed_policy(config: &Checked) -> Result<(Policy, Digest, Vec<String>), Vec<String>> {
    let path = &config.acl.file;
    let text = read_policy(path).map_err(|problem| vec![problem])?;
    match Policy::parse(&text, &path.display().to_string(), &config.acl.options) {
        Ok((policy, warnings)) => {
            let mut hash = Digest::default();
            hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
            let recovery = Arc::new(config.standing.recovery_topics.recovery());
            Ok((policy.with_recovery(recovery), hash, warnings.iter().map(ToString::to_string).collect()))
        }
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// Reads a policy file, bounded.
pub fn read_policy(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!(
                "{shown}: there is no such policy file: without one nobody may do anything\n  \
                 hint: acl/policies/default.acl is a start; [acl] file names it"
            ));
        }
        Err(error) => return Err(format!("{shown}: the policy cannot be read: {error}")),
    };
    if size > POLICY_BYTES_MAX {
        return Err(format!("{shown}: the policy is longer than {} MiB", POLICY_BYTES_MAX >> 20));
    }
    std::fs::read_to_string(path).map_err(|error| format!("{shown}: the policy cannot be read: {error}"))
}

/// A policy that uses `%c` gives rights by client id: only where the client id is bound to the identity.
fn client_id_conflicts(config: &Checked, policy: &Policy) -> Vec<String> {
    if !policy.uses_client_id() {
        return Vec::new();
    }
    config
        .listeners
        .iter()
        .filter(|listener| listener.client_id == signet_config::ClientIdRule::Any)
        .map(|listener| {
            format!(
                "{}: the policy gives rights by client id (%c), but listener {} lets every client choose its own\n  \
                 hint: use %u in the policy, or set client-id = \"identity\" on that listener",
                config.acl.file.display(),
                listener.address
            )
        })
        .collect()
}

/// The files of one address, and how it speaks TLS.
struct Plan<'a> {
    certificate: &'a Path,
    private_key: &'a Path,
    client_ca: &'a [PathBuf],
    crl: &'a [PathBuf],
    stale_by_issuer: Vec<(String, StaleCrl)>,
    options: TlsOptions,
}

impl Plan<'_> {
    fn judged_by(mut self, judge: &Arc<Judge>) -> Self {
        self.options.clock = Arc::<Judge>::clone(judge);
        self
    }
}

fn plan_of_listener<'a>(config: &Checked, listener: &'a Listener) -> Plan<'a> {
    Plan {
        certificate: &listener.certificate,
        private_key: &listener.private_key,
        client_ca: &listener.client_ca,
        crl: &listener.crl,
        stale_by_issuer: stale_by_issuer(listener),
        options: tls_options(config, listener),
    }
}

fn plan_of_https<'a>(config: &Checked, door: &'a Https) -> Plan<'a> {
    Plan {
        certificate: &door.certificate,
        private_key: &door.private_key,
        client_ca: &door.client_ca,
        crl: &door.crl,
        stale_by_issuer: Vec::new(),
        // Certificates of secure elements have no extended key usage, and come here before they are devices.
        options: TlsOptions {
            inside: Inside::Http,
            trust: TrustOptions {
                eku: EkuRule::IfPresent,
                expired_grace: config.standing.expired_grace,
                ..TrustOptions::default()
            },
            ..TlsOptions::default()
        },
    }
}

fn sentences(errors: &[SourceError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn tls(
    plan: &Plan<'_>,
    mut sources: ListenerSources,
    previous: Option<&TlsListener>,
    seen: &Editions,
) -> Result<(TlsListener, Vec<String>), Vec<String>> {
    sources.editions = seen.clone();
    sources.stale_by_issuer.clone_from(&plan.stale_by_issuer);
    let (built, warnings) = TlsListener::build(&sources, &plan.options, previous, clock::unix_time())
        .map_err(|wrong| sentences(&wrong))?;
    Ok((built, warnings.iter().map(ToString::to_string).collect()))
}

/// The settings of a listener in the terms of TLS.
pub(crate) fn tls_options(config: &Checked, listener: &Listener) -> TlsOptions {
    TlsOptions {
        versions: match listener.tls_versions {
            signet_config::TlsVersions::V12AndV13 => TlsVersions::V12AndV13,
            signet_config::TlsVersions::V12 => TlsVersions::V12,
            signet_config::TlsVersions::V13 => TlsVersions::V13,
        },
        trust: TrustOptions {
            eku: if listener.require_client_auth_eku { EkuRule::Required } else { EkuRule::IfPresent },
            stale: stale_crl(listener.crl_stale),
            x509_v1: match listener.x509_v1 {
                signet_config::X509V1::Refuse => X509V1::Refuse,
                signet_config::X509V1::Accept => X509V1::Accept,
            },
            expired_grace: config.standing.expired_grace,
            ..TrustOptions::default()
        },
        session_tickets: listener.session_tickets,
        sessions_max: usize::try_from(listener.connections_max.get()).unwrap_or(TlsOptions::SESSIONS_MAX),
        fragment_bytes_max: listener.fragment_bytes_max,
        post_quantum: listener.post_quantum == signet_config::PostQuantum::Prefer,
        ..TlsOptions::default()
    }
}

/// What stale lists of single issuers mean, by their names.
pub(crate) fn stale_by_issuer(listener: &Listener) -> Vec<(String, StaleCrl)> {
    let by_issuer = listener.crl_stale_by_issuer.iter();
    by_issuer.map(|(issuer, stale)| (issuer.clone(), stale_crl(*stale))).collect()
}

fn stale_crl(stale: signet_config::CrlStale) -> StaleCrl {
    match stale {
        signet_config::CrlStale::Reject => StaleCrl::Reject,
        signet_config::CrlStale::Grace(grace) => StaleCrl::Grace(grace),
        signet_config::CrlStale::Warn => StaleCrl::Warn,
    }
}

/// Every file that the state is made of.
pub fn files_of(config: &Checked) -> Vec<PathBuf> {
    let mut files = vec![config.file.clone(), config.acl.file.clone()];
    for listener in &config.listeners {
        files.push(listener.certificate.clone());
        files.push(listener.private_key.clone());
        files.extend(listener.client_ca.iter().cloned());
        files.extend(listener.crl.iter().cloned());
    }
    files.extend(config.ca.iter().map(|ca| ca.directory.join(CERTIFICATE_FILE)));
    for door in &config.https {
        files.push(door.certificate.clone());
        files.push(door.private_key.clone());
        files.extend(door.client_ca.iter().cloned());
        files.extend(door.crl.iter().cloned());
    }
    files
}

/// The files of revocation lists, sorted, each once.
pub fn lists_of(config: &Checked) -> Vec<PathBuf> {
    let lists = config.listeners.iter().flat_map(|listener| &listener.crl);
    let lists = lists.chain(config.https.iter().flat_map(|door| &door.crl));
    let mut lists: Vec<_> = lists.cloned().collect();
    lists.sort();
    lists.dedup();
    lists
}

/// The digest of the names and contents of `files`. A file that cannot be read counts as such, so that its return is a change.
pub fn digest_of(files: &[PathBuf]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for path in files {
        let name = path.as_os_str().as_encoded_bytes();
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        match std::fs::read(path) {
            Ok(bytes) => {
                context.update(&(bytes.len() as u64).to_be_bytes());
                context.update(&bytes);
            }
            Err(_) => context.update(&u64::MAX.to_be_bytes()),
        }
    }
    let mut out = Digest::default();
    out.copy_from_slice(context.finish().as_ref());
    out
}
