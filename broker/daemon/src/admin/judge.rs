//! What the broker says of a certificate without a connection: each listener's verdict, the registry's, and the rights that
//! follow. `signet doctor` asks a running broker, or builds the same from the files of one that is not running.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use signet_acl::{Policy, Subject};
use signet_config::Checked;
use signet_identity::{CertificateId, GroupName, Principal, Role, ThingName, identify};
use signet_registry::{KeyHash, Registry, Seen, SerialNumber, Standing, Status, Wall};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::api::Refusal;
use super::registry::api::SeenRow;
use crate::server::Broker;
use crate::tls::{DeviceVerifier, Judged};

/// `POST /certificates/judge`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JudgeCertificate {
    /// What a client would present: its own certificate first, PEM, at most 8 certificates.
    pub chain: String,
}

/// The answer to [`JudgeCertificate`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    /// One for each listener, in the order of the configuration.
    pub listeners: Vec<ListenerJudgement>,
    /// What the registry says, when there is one.
    pub registry: Option<RegistryJudgement>,
    /// As whom the certificate would connect; absent when it would not.
    pub who: Option<Who>,
    /// What that may do: the rules that apply, in the order of evaluation.
    pub rights: Vec<RightRow>,
    /// Rules beyond the first 1000.
    pub rights_left_out: u64,
    /// Whether a subscription that no rule covers is refused; otherwise nothing is delivered for it.
    pub subscribe_check: bool,
}

/// A listener's verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListenerJudgement {
    /// Its address.
    pub address: String,
    /// Whether TLS lets the certificate in.
    pub accepted: bool,
    /// Why not, out of a closed set.
    pub cause: Option<String>,
    /// Why not, in words.
    pub reason: Option<String>,
    /// The name that the certificate gives there.
    pub name: Option<String>,
    /// Why it gives none.
    pub name_problem: Option<String>,
    /// The largest plaintext of a record that it sends, in bytes.
    pub fragment_bytes_max: u16,
}

impl ListenerJudgement {
    /// Why a client with this certificate gets no further than the handshake there; `None` when it does.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.reason.as_deref().or(self.name_problem.as_deref())
    }
}

/// The registry's verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegistryJudgement {
    /// `active`, `unknown`, `admissible`, `pending`, `inactive`, `revoked`, `serial_conflict`.
    pub standing: String,
    /// How an unknown one would be admitted.
    pub policy: Option<String>,
    /// Whose it is, as `device NAME`.
    pub holder: Option<String>,
    /// Since when it is suspended or revoked, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Why it was revoked.
    pub reason: Option<String>,
    /// When and from where it connected; a broker that is not running does not say.
    pub seen: Option<SeenRow>,
}

/// A principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Who {
    /// `device`, `claim` or `operator`.
    pub role: String,
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Whether it is in quarantine: it reaches its recovery topics only.
    pub quarantined: bool,
}

/// A rule that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RightRow {
    /// Its stage of evaluation.
    pub stage: String,
    /// `deny`, `receive`, `publish`, or `publish and receive`.
    pub access: String,
    /// The topics, as a filter.
    pub filter: String,
    /// Where the rule is.
    pub file: String,
    /// Its line; 0 when it is built in.
    pub line: u32,
}

/// A listener, for judging without it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: String,
    pub(crate) verifier: Arc<DeviceVerifier>,
    pub(crate) settings: Arc<signet_config::Listener>,
}

/// All that a judgement is made of.
pub(crate) struct Court<'a> {
    pub(crate) doors: Vec<Door>,
    pub(crate) registry: Option<(&'a Registry, Wall)>,
    pub(crate) seen: Option<Seen>,
    pub(crate) policy: &'a Policy,
    pub(crate) config: &'a Checked,
}

/// `POST /certificates/judge`.
pub(super) async fn judge(
    State(broker): State<Arc<Broker>>,
    Json(wanted): Json<JudgeCertificate>,
) -> Result<Json<Judgement>, Response> {
    let refuse = |problem: &str| {
        let refusal = Refusal { problems: vec![problem.to_owned()] };
        (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response()
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(wanted.chain.as_bytes()).collect();
    let chain = match chain {
        Ok(chain) if (1..=DeviceVerifier::CERTIFICATES_MAX).contains(&chain.len()) => chain,
        _ => return Err(refuse("the chain must be 1 to 8 certificates in PEM, the client's own first")),
    };
    // Signatures are verified: not on a thread that others wait for.
    let judged = tokio::task::spawn_blocking(move || of_running(&broker, &chain)).await;
    judged.map(Json).map_err(|error| refuse(&format!("the judgement did not finish: {error}")))
}

fn of_running(broker: &Broker, chain: &[CertificateDer<'_>]) -> Judgement {
    let doors = broker.listeners.iter().map(|listening| Door {
        address: listening.address.to_string(),
        verifier: Arc::clone(listening.tls.load().verifier()),
        settings: listening.settings(),
    });
    let (config, policy) = (broker.config.load(), broker.hub().policy());
    let registry = broker.registry().map(|service| (service.snapshot(), service.now()));
    let id = chain.first().map(|leaf| CertificateId::of(leaf));
    let court = Court {
        doors: doors.collect(),
        registry: registry.as_ref().map(|(registry, now)| (registry.as_ref(), *now)),
        seen: broker.registry().and_then(|service| service.last_seen(&id?)),
        policy: &policy,
        config: &config,
    };
    court.judge(chain, broker.judging_time())
}

impl Court<'_> {
    /// Judges a chain, the client's own certificate first. An empty one is refused everywhere.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Judgement {
        let leaf: &[u8] = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let mut by_path: Option<Judged> = None;
        let mut name: Option<ThingName> = None;
        let mut listeners = Vec::with_capacity(self.doors.len());
        for door in &self.doors {
            let verdict = door.verifier.judge(chain, now);
            let identified = identify(leaf, door.settings.identity, &door.settings.names);
            let failure = verdict.as_ref().err();
            listeners.push(ListenerJudgement {
                address: door.address.clone(),
                accepted: failure.is_none(),
                cause: failure.map(|failure| failure.metric_label().to_owned()),
                reason: failure.map(ToString::to_string),
                name: identified.as_ref().ok().map(|known| known.name.to_string()),
                name_problem: identified.as_ref().err().map(ToString::to_string),
                fragment_bytes_max: door.settings.fragment_bytes_max.get(),
            });
            if let Ok(judged) = verdict {
                name = name.or_else(|| identified.ok().map(|known| known.name));
                by_path.get_or_insert(judged);
            }
        }
        let id = CertificateId::of(leaf);
        let standing =
            self.registry.map(|(registry, at)| (registry, standing(registry, at, chain, by_path.as_ref())));
        let principal = match &standing {
            Some((_, Standing::Active(active))) if by_path.is_some() => {
                let (name, groups) = (active.holder.name.clone(), active.groups().to_vec());
                let principal = match active.holder.role {
                    Role::Device => Principal::device(name, id, groups),
                    Role::Claim => Principal::claim(name, id, active.templates().to_vec()),
                    Role::Operator => Principal::operator(name, id, groups),
                };
                Some(if active.quarantined { principal.in_quarantine() } else { principal })
            }
            Some(_) => None,
            None => name.map(|name| self.by_configuration(name, id)),
        };
        // By the grace for expired certificates a device still connects, into quarantine.
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let expired = by_path.as_ref().is_some_and(|judged| now > judged.not_after());
        let principal = principal.map(|principal| {
            let held = expired && principal.role() == Role::Device;
            if held { principal.in_quarantine() } else { principal }
        });
        let mut judgement = Judgement {
            listeners,
            registry: standing.map(|(registry, standing)| self.in_words(registry, &standing, &id)),
            who: principal.as_ref().map(Who::from),
            rights: Vec::new(),
            rights_left_out: 0,
            subscribe_check: self.policy.options().subscribe_check,
        };
        if let Some(principal) = &principal {
            self.add_rights(principal, &mut judgement);
        }
        judgement
    }

    fn by_configuration(&self, name: ThingName, id: CertificateId) -> Principal {
        let identity = &self.config.identity;
        let groups: Vec<GroupName> = identity.groups_of(&name).cloned().collect();
        if identity.operators.contains(&name) {
            Principal::operator(name, id, groups)
        } else {
            Principal::device(name, id, groups)
        }
    }

    fn add_rights(&self, principal: &Principal, judgement: &mut Judgement) {
        let rights = self.policy.rights(&Subject { principal, client_id: principal.name() });
        judgement.rights_left_out = rights.left_out as u64;
        judgement.rights = rights
            .rights
            .into_iter()
            .map(|right| {
                let rule = self.policy.rule(right.rule);
                RightRow {
                    stage: right.stage,
                    access: match (right.deny, right.read, right.write) {
                        (true, ..) => "deny",
                        (false, true, true) => "publish and receive",
                        (false, _, true) => "publish",
                        (false, ..) => "receive",
                    }
                    .to_owned(),
                    filter: right.filter,
                    file: rule.file.to_owned(),
                    line: rule.line,
                }
            })
            .collect();
    }

    fn in_words(&self, registry: &Registry, standing: &Standing, id: &CertificateId) -> RegistryJudgement {
        let known = registry.certificate(id);
        let since = match (standing, known.map(|known| &known.status)) {
            (Standing::Revoked { since, .. }, _) | (_, Some(Status::Inactive { since })) => Some(since.0),
            _ => None,
        };
        RegistryJudgement {
            standing: standing.metric_label().to_owned(),
            policy: match standing {
                Standing::Admissible { policy, .. } => Some(policy.as_str().to_owned()),
                _ => None,
            },
            holder: known
                .and_then(|known| known.holder.as_ref())
                .map(|holder| format!("{} {}", holder.role, holder.name)),
            since_ms: since,
            reason: match standing {
                Standing::Revoked { reason, .. } => Some(reason.to_string()),
                _ => None,
            },
            seen: self.seen.as_ref().map(|seen| SeenRow {
                first_ms: seen.first.0,
                last_ms: seen.last.0,
                address: seen.address.to_string(),
                tls: seen.tls.as_str().to_owned(),
                connects: seen.connects,
            }),
        }
    }
}

impl From<&Principal> for Who {
    fn from(principal: &Principal) -> Self {
        Self {
            role: principal.role().to_string(),
            name: principal.name().to_string(),
            groups: principal.groups().iter().map(ToString::to_string).collect(),
            quarantined: principal.is_quarantined(),
        }
    }
}

/// Where the certificate stands. A path that was verified knows which key signed it; otherwise what was sent is tried.
fn standing(
    registry: &Registry,
    at: Wall,
    chain: &[CertificateDer<'_>],
    by_path: Option<&Judged>,
) -> Standing {
    let Some((leaf, rest)) = chain.split_first() else { return Standing::Unknown };
    let id = CertificateId::of(leaf);
    if let Some(judged) = by_path {
        return registry.standing(&id, &judged.issuer_key(), &judged.serial(), at);
    }
    if let Some(known) = registry.certificate(&id) {
        return registry.standing_of(known, at);
    }
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Standing::Unknown };
    let Some(serial) = SerialNumber::new(parsed.raw_serial()) else { return Standing::Unknown };
    let signer = rest.iter().find_map(|der| {
        let (_, issuer) = X509Certificate::from_der(der).ok()?;
        let signed = issuer.subject().as_raw() == parsed.issuer().as_raw()
            && parsed.verify_signature(Some(issuer.public_key())).is_ok();
        signed.then(|| KeyHash::of_spki(issuer.public_key().raw))
    });
    signer.map_or(Standing::Unknown, |issuer| registry.standing(&id, &issuer, &serial, at))
}
