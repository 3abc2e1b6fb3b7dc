//! Devices and the standing of their certificates.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use signet_identity::{CertificateId, GroupName, ThingName};
use signet_registry::{
    Attributes, CaId, Certificate, Command, Groups, KeyHash, Line, Registry, RevocationReason, Selector,
    SerialNumber, Status, StatusKind, Thing, ThingSpec, ThingType, Wall,
};

use super::answer::{Answer, Refused, blocking};
use super::api::{
    Action, AddDevice, AddDevices, Added, AddedDevice, ApproveDevice, CertificateRow, ChangeStanding,
    Changed, DEVICES_AT_ONCE_MAX, Device, Devices, IssuedCertificate, ListDevices, QuarantineRow, SeenRow,
    Select, ShowDevice, Shown,
};
use super::{At, Operated, changed};
use crate::ca::{Given, KeyProof};
use crate::store::RegistryService;

/// The fewest digits that an id may be abbreviated to.
const DIGITS_MIN: usize = 8;

pub(super) async fn list(at: At, Json(wanted): Json<ListDevices>) -> Answer<Devices> {
    let operated = at.0;
    // The whole registry may have to be looked at.
    blocking(move || {
        let service = &operated.registry;
        let registry = service.snapshot();
        let now = service.now();
        let after = wanted.after.as_deref().map(thing_name).transpose()?;
        let filter = Filter::new(&wanted, now)?;
        let mut devices: Vec<Device> = Vec::new();
        for thing in registry.things(after.as_ref()) {
            if !filter.admits(&registry, thing) {
                continue;
            }
            if devices.len() == DEVICES_AT_ONCE_MAX {
                let next = devices.last().map(|device| device.name.clone());
                return Ok(Devices { devices, next, unbound: Vec::new() });
            }
            devices.push(device(service, &registry, thing, now));
        }
        let unbound = if filter.status == Some(StatusKind::PendingActivation) {
            let nobodys = registry.certificates().filter(|certificate| certificate.holder.is_none());
            nobodys.map(|found| certificate_row(service, &registry, found, now)).collect()
        } else {
            Vec::new()
        };
        Ok(Devices { devices, next: None, unbound })
    })
    .await
}

struct Filter {
    status: Option<StatusKind>,
    ends_before: Option<i64>,
    now: Wall,
    thing_type: Option<String>,
    group: Option<String>,
}

impl Filter {
    fn new(wanted: &ListDevices, now: Wall) -> Result<Self, Refused> {
        let status = wanted.status.as_deref().map(|word| {
            let kinds = StatusKind::ALL.into_iter();
            kinds.clone().find(|kind| word_of(*kind) == word).ok_or_else(|| {
                let words: Vec<_> = kinds.map(word_of).collect();
                Refused::found(format!("{word:?} is no status: {} are", words.join(", ")))
            })
        });
        let within = wanted.expiring_within_seconds.map(|secs| i64::try_from(secs).unwrap_or(i64::MAX));
        Ok(Self {
            status: status.transpose()?,
            ends_before: within.map(|secs| now.unix_secs().saturating_add(secs)),
            now,
            thing_type: wanted.thing_type.clone(),
            group: wanted.group.clone(),
        })
    }

    fn admits(&self, registry: &Registry, thing: &Thing) -> bool {
        let certificates = || thing.certificates().iter().filter_map(|id| registry.certificate(id));
        let spec = &thing.spec;
        let kind = spec.thing_type.as_ref().map(|kind| kind.0.as_str());
        let groups = spec.groups.as_slice();
        self.thing_type.as_deref().is_none_or(|wanted| kind == Some(wanted))
            && self.group.as_deref().is_none_or(|wanted| groups.iter().any(|group| group.as_str() == wanted))
            && self.status.is_none_or(|wanted| certificates().any(|c| c.status.kind() == wanted))
            && self.ends_before.is_none_or(|end| {
                certificates().any(|c| c.counts_as_active(self.now) && c.facts.not_after <= end)
            })
    }
}

/// A state as the command line writes it.
const fn word_of(kind: StatusKind) -> &'static str {
    match kind {
        StatusKind::PendingActivation => "pending-activation",
        StatusKind::Active => "active",
        StatusKind::Inactive => "inactive",
        StatusKind::Revoked => "revoked",
    }
}

fn device(service: &RegistryService, registry: &Registry, thing: &Thing, now: Wall) -> Device {
    let spec = &thing.spec;
    let certificates = thing.certificates().iter().filter_map(|id| registry.certificate(id));
    Device {
        name: spec.name.to_string(),
        thing_type: spec.thing_type.as_ref().map(|kind| kind.0.to_string()),
        groups: spec.groups.as_slice().iter().map(ToString::to_string).collect(),
        attributes: spec.attributes.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        version: thing.version,
        added_ms: thing.added.0,
        quarantine: thing.quarantine.as_ref().map(|quarantine| QuarantineRow {
            since_ms: quarantine.since.0,
            why: quarantine.why.to_string(),
        }),
        certificates: certificates.map(|found| certificate_row(service, registry, found, now)).collect(),
    }
}

pub(super) fn certificate_row(
    service: &RegistryService,
    registry: &Registry,
    certificate: &Certificate,
    now: Wall,
) -> CertificateRow {
    let facts = &certificate.facts;
    let (since_ms, reason) = match &certificate.status {
        Status::Inactive { since } => (Some(since.0), None),
        Status::Revoked { since, reason } => (Some(since.0), Some(reason.to_string())),
        Status::Active | Status::Pending(_) => (None, None),
    };
    let seen = service.last_seen(&facts.id).map(|seen| SeenRow {
        first_ms: seen.first.0,
        last_ms: seen.last.0,
        address: seen.address.to_string(),
        tls: seen.tls.as_str().to_owned(),
        connects: seen.connects,
    });
    CertificateRow {
        id: facts.id.to_string(),
        serial: facts.serial.to_string(),
        issuer_key: facts.issuer.to_string(),
        issuer: registry.ca_by_key(&facts.issuer).map(|ca| ca.subject.to_string()),
        subject: facts.subject.to_string(),
        status: word_of(certificate.status.kind()).to_owned(),
        standing: registry.standing_of(certificate, now).metric_label().to_owned(),
        since_ms,
        reason,
        holder: certificate.holder.as_ref().map(|holder| format!("{} {}", holder.role, holder.name)),
        not_before: facts.not_before,
        not_after: facts.not_after,
        registered_ms: certificate.registered.0,
        replaced_by: certificate.successor.as_ref().map(|successor| successor.by.to_string()),
        seen,
    }
}

pub(super) async fn show(at: At, Json(wanted): Json<ShowDevice>) -> Answer<Shown> {
    let operated = at.0;
    blocking(move || {
        let service = &operated.registry;
        let registry = service.snapshot();
        let now = service.now();
        if let Some(thing) = registry.thing(&wanted.what) {
            let device = device(service, &registry, thing, now);
            return Ok(Shown { device: Some(device), certificate: None });
        }
        let id = certificate_id(&registry, &wanted.what).map_err(|_| {
            Refused::found(format!("there is no device and no certificate {:?}", wanted.what))
        })?;
        let certificate =
            registry.certificate(&id).map(|found| certificate_row(service, &registry, found, now));
        Ok(Shown { device: None, certificate })
    })
    .await
}

pub(super) async fn add(at: At, Json(wanted): Json<AddDevices>) -> Answer<Added> {
    let operated = at.0;
    blocking(move || {
        if wanted.devices.len() > DEVICES_AT_ONCE_MAX {
            return Err(Refused::found(format!("at most {DEVICES_AT_ONCE_MAX} devices are added at once")));
        }
        let devices = add_all(&operated, &wanted.devices);
        let issuer = operated.authority.as_ref().map(|authority| authority.issuer().certificate_pem());
        Ok(Added { devices, issuer })
    })
    .await
}

/// A device that is to be added, read.
struct Wanted<'a> {
    spec: ThingSpec,
    key: Option<WantedKey<'a>>,
}

enum WantedKey<'a> {
    Csr(&'a str),
    Public(SubjectPublicKeyInfoDer<'static>),
}

fn add_all(operated: &Operated, devices: &[AddDevice]) -> Vec<AddedDevice> {
    let service = &operated.registry;
    let read: Vec<Result<Wanted<'_>, Refused>> = devices
        .iter()
        .map(|device| {
            let wanted = read_wanted(device)?;
            if wanted.key.is_some() {
                operated.authority()?;
            }
            Ok(wanted)
        })
        .collect();
    // Those without a certificate are all handed over before the first is waited for.
    let things: Vec<_> = read
        .iter()
        .map(|wanted| match wanted {
            Ok(Wanted { spec, key: None }) => {
                Some(service.submit(Command::AddThing(spec.clone()), operated.actor.clone()))
            }
            _ => None,
        })
        .collect();
    let mut added: Vec<Result<Option<Given>, String>> = read
        .iter()
        .zip(things)
        .map(|(wanted, thing)| {
            wanted.as_ref().map_err(|refused| refused.problem().to_owned())?;
            thing.map_or(Ok(()), |thing| thing.wait().map(drop)).map_err(|error| error.to_string())?;
            Ok(None)
        })
        .collect();
    if let Some(authority) = &operated.authority {
        let asked: Vec<_> = read
            .iter()
            .enumerate()
            .filter_map(|(index, wanted)| {
                let wanted = wanted.as_ref().ok()?;
                Some((index, &wanted.spec, wanted.key.as_ref()?.proof()))
            })
            .collect();
        let given = authority.issue_all(
            service,
            asked.iter().map(|(_, spec, proof)| (*spec, *proof)),
            &operated.actor,
        );
        for ((index, ..), given) in asked.iter().zip(given) {
            if let Some(slot) = added.get_mut(*index) {
                *slot = given.map(Some).map_err(|refused| refused.to_string());
            }
        }
    }
    let registry = service.registry();
    devices.iter().zip(added).map(|(device, added)| added_row(&registry, &device.name, added)).collect()
}

impl WantedKey<'_> {
    fn proof(&self) -> KeyProof<'_> {
        match self {
            Self::Csr(csr) => KeyProof::Csr(csr.as_bytes()),
            Self::Public(spki) => KeyProof::Operator(spki),
        }
    }
}

fn added_row(registry: &Registry, name: &str, added: Result<Option<Given>, String>) -> AddedDevice {
    let name = name.to_owned();
    match added {
        Err(problem) => AddedDevice { name, problem: Some(problem), certificate: None },
        Ok(given) => {
            let certificate = given.map(|given| {
                let facts = registry.certificate(&given.id).map(|certificate| &certificate.facts);
                IssuedCertificate {
                    id: given.id.to_string(),
                    serial: facts.map_or_else(String::new, |facts| facts.serial.to_string()),
                    not_after: facts.map_or(0, |facts| facts.not_after),
                    pem: crate::ca::certificate_pem(&given.der),
                    already: given.already,
                }
            });
            AddedDevice { name, problem: None, certificate }
        }
    }
}

fn read_wanted(device: &AddDevice) -> Result<Wanted<'_>, Refused> {
    let name = thing_name(&device.name)?;
    let thing_type = device.thing_type.as_deref().map(|text| {
        ThingName::try_from(text)
            .map(ThingType)
            .map_err(|error| Refused::found(format!("{text:?} cannot be a type: {error}")))
    });
    let groups: Result<Vec<GroupName>, Refused> = device
        .groups
        .iter()
        .map(|text| {
            GroupName::try_from(text.as_str())
                .map_err(|error| Refused::found(format!("{text:?} cannot be a group: {error}")))
        })
        .collect();
    let attributes: BTreeMap<Box<str>, Box<str>> =
        device.attributes.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    let key = match (&device.csr, &device.public_key) {
        (None, None) => None,
        (Some(csr), None) => Some(WantedKey::Csr(csr)),
        (None, Some(key)) => Some(WantedKey::Public(
            SubjectPublicKeyInfoDer::from_pem_slice(key.as_bytes())
                .map_err(|_| Refused::found("the public key is not PEM with the label PUBLIC KEY"))?,
        )),
        (Some(_), Some(_)) => return Err(Refused::found("give a signing request or a public key, not both")),
    };
    let spec = ThingSpec {
        name,
        thing_type: thing_type.transpose()?,
        attributes: Attributes::new(attributes)?,
        groups: Groups::new(groups?)?,
    };
    Ok(Wanted { spec, key })
}

/// Lets a device be provisioned again though it was before, or lost its standing.
pub(super) async fn approve(at: At, Json(wanted): Json<ApproveDevice>) -> Answer<Changed> {
    let thing = thing_name(&wanted.name)?;
    let until = wanted.valid_seconds.map(|secs| at.registry.now().after(Duration::from_secs(secs)));
    let command = Command::ApproveThing { thing, until };
    let applied = at.registry.submit(command, at.actor.clone()).answer().await?;
    Ok(Json(changed(&applied)))
}

/// A device as it is to be added.
pub(super) fn thing_spec(device: &AddDevice) -> Result<ThingSpec, Refused> {
    Ok(read_wanted(device)?.spec)
}

pub(super) async fn change_standing(at: At, Json(wanted): Json<ChangeStanding>) -> Answer<Changed> {
    let operated = at.0;
    blocking(move || {
        let selected = || selector(&operated.registry.registry(), &wanted.select);
        let command = match wanted.action {
            Action::Revoke => {
                let reason = wanted.reason.as_deref().map(reason).transpose()?.unwrap_or_default();
                Command::Revoke { selector: selected()?, reason }
            }
            Action::Suspend => Command::Suspend(selected()?),
            Action::Activate => Command::Activate(selected()?),
            Action::Quarantine => {
                let why = Line::new(wanted.reason.as_deref().unwrap_or("an operator said so"));
                Command::Quarantine { thing: device_name(&wanted.select)?, why }
            }
            Action::Release => Command::Release(device_name(&wanted.select)?),
        };
        let applied = operated.registry.execute(command, operated.actor.clone())?;
        Ok(changed(&applied))
    })
    .await
}

/// The device that quarantine is about.
fn device_name(select: &Select) -> Result<ThingName, Refused> {
    match &select.name {
        Some(name) => thing_name(name),
        None => Err(Refused::found("say which device: quarantine is a device's, with all its certificates")),
    }
}

pub(super) fn reason(word: &str) -> Result<RevocationReason, Refused> {
    RevocationReason::ALL.into_iter().find(|reason| reason.as_str() == word).ok_or_else(|| {
        let words: Vec<_> = RevocationReason::ALL.iter().map(|reason| reason.as_str()).collect();
        Refused::found(format!("{word:?} is no reason: {} are", words.join(", ")))
    })
}

fn selector(registry: &Registry, select: &Select) -> Result<Selector, Refused> {
    let Select { name, certificate, serial, issuer, ca } = select;
    match (name, certificate, serial, issuer, ca) {
        (Some(name), None, None, None, None) => Ok(Selector::thing(thing_name(name)?)),
        (None, Some(id), None, None, None) => Ok(Selector::Certificate(certificate_id(registry, id)?)),
        (None, None, Some(serial), issuer, None) => {
            let serial: SerialNumber = serial.parse().map_err(|error| Refused::found(format!("{error}")))?;
            let issuer = issuer.as_deref().map(|text| issuer_key(registry, text)).transpose()?;
            Ok(Selector::Serial { issuer, serial })
        }
        (None, None, None, Some(issuer), None) => Ok(Selector::Issuer(issuer_key(registry, issuer)?)),
        (None, None, None, None, Some(ca)) => Ok(Selector::Ca(ca_id(registry, ca)?)),
        _ => Err(Refused::found(
            "say which: a name, or one of --certificate, --serial (with --issuer), --issuer, --ca",
        )),
    }
}

pub(super) fn thing_name(text: &str) -> Result<ThingName, Refused> {
    ThingName::try_from(text).map_err(|error| Refused::found(format!("{text:?} cannot be a name: {error}")))
}

/// The certificate with this id, or the only one whose id begins so.
pub(super) fn certificate_id(registry: &Registry, text: &str) -> Result<CertificateId, Refused> {
    if let Some(id) = CertificateId::from_hex(text) {
        return Ok(id);
    }
    let ids = registry.certificates().map(|certificate| *certificate.id());
    only("certificate", text, ids)
}

/// The authority with this id, or the only one whose id begins so.
pub(super) fn ca_id(registry: &Registry, text: &str) -> Result<CaId, Refused> {
    text.parse().or_else(|_| only("authority", text, registry.cas().map(|ca| ca.id)))
}

/// The key of the authority with this id or key, or of the only one for which they begin so.
fn issuer_key(registry: &Registry, text: &str) -> Result<KeyHash, Refused> {
    if let Ok(ca) = ca_id(registry, text)
        && let Some(ca) = registry.ca(&ca)
    {
        return Ok(ca.key);
    }
    text.parse().or_else(|_| only("issuer", text, registry.cas().map(|ca| ca.key)))
}

pub(super) fn only<T: std::fmt::Display>(
    what: &str,
    text: &str,
    ids: impl Iterator<Item = T>,
) -> Result<T, Refused> {
    if text.len() < DIGITS_MIN || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Refused::found(format!(
            "{text:?} is no id of {what}: give its hexadecimal digits, at least the first {DIGITS_MIN}"
        )));
    }
    let digits = text.to_ascii_lowercase();
    let mut found = ids.filter(|id| id.to_string().starts_with(&digits));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Refused::found(format!("there is no {what} whose id begins with {text}"))),
        (Some(_), Some(_)) => {
            Err(Refused::found(format!("several ids of {what} begin with {text}: give more digits")))
        }
    }
}
