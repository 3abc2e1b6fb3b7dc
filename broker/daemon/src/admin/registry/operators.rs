//! Operators: people and services that run the fleet.

use std::time::Duration;

use axum::Json;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use signet_identity::ThingName;
use signet_registry::ca::{CheckedCsr, CsrPolicy, PublicKey, SubjectRule};
use signet_registry::{CaId, NewCertificate};

use super::answer::{Answer, Refused, blocking};
use super::api::{AddOperator, AddedOperator, IssuedCertificate, OperatorRow};
use super::devices::{certificate_row, thing_name};
use super::{At, Operated};
use crate::ca::{Authority, IssueRefused, certificate_pem};
use crate::signing::Right;
use crate::store::ExecuteError;

pub(super) async fn add(at: At, Json(wanted): Json<AddOperator>) -> Answer<AddedOperator> {
    let operated = at.0;
    blocking(move || {
        let name = thing_name(&wanted.name)?;
        let given = certify(&operated, &name, &wanted);
        if let Err(refused) = &given {
            let why = refused.problem().lines().next().unwrap_or_default();
            let why = format!("{name}: {why}");
            let service = &operated.registry;
            service.record_refusal(Right::Operator.attempt(), &why, 0, operated.actor.clone());
        }
        given
    })
    .await
}

fn certify(operated: &Operated, name: &ThingName, wanted: &AddOperator) -> Result<AddedOperator, Refused> {
    let authority = operated.authority()?;
    let key = public_key(authority, name, wanted)?;
    let validity = wanted.valid_seconds.map(Duration::from_secs);
    let actor = operated.actor.clone();
    let der = authority
        .certify(&operated.registry, &Right::Operator, name, &key, validity, actor)
        .map_err(refused)?;
    let issuer = authority.issuer();
    let read =
        NewCertificate::read(&der, issuer.key_hash()).map_err(|error| Refused::found(error.to_string()))?;
    let facts = read.facts();
    Ok(AddedOperator {
        name: name.to_string(),
        certificate: IssuedCertificate {
            id: CaId::of(&der).to_string(),
            serial: facts.serial.to_string(),
            not_after: facts.not_after,
            pem: certificate_pem(&der),
            already: false,
        },
        issuer: issuer.certificate_pem(),
    })
}

fn public_key(authority: &Authority, name: &ThingName, wanted: &AddOperator) -> Result<PublicKey, Refused> {
    let keys = authority.key_kinds();
    match (&wanted.csr, &wanted.public_key) {
        (Some(csr), None) => {
            let policy = CsrPolicy { keys: keys.clone(), subject: SubjectRule::MustEqual(name.clone()) };
            let csr = CheckedCsr::parse(csr.as_bytes(), &policy)
                .map_err(|error| Refused::found(format!("{error}\n  hint: {}", error.hint())))?;
            Ok(csr.public_key().clone())
        }
        (None, Some(key)) => {
            let spki = SubjectPublicKeyInfoDer::from_pem_slice(key.as_bytes())
                .map_err(|_| Refused::found("the public key is not PEM with the label PUBLIC KEY"))?;
            PublicKey::from_spki_allowed(&spki, keys).map_err(|error| Refused::found(error.to_string()))
        }
        _ => Err(Refused::found("give a signing request or a public key")),
    }
}

fn refused(error: IssueRefused) -> Refused {
    match error {
        IssueRefused::Registry(error) => ExecuteError::Refused(error).into(),
        IssueRefused::Store(error) => error.into(),
        other => Refused::found(other.to_string()),
    }
}

pub(super) async fn list(at: At) -> Answer<Vec<OperatorRow>> {
    let (service, now) = (&at.registry, at.registry.now());
    let registry = service.snapshot();
    let row = |name: &ThingName, ids: &[signet_identity::CertificateId]| OperatorRow {
        name: name.to_string(),
        certificates: ids
            .iter()
            .filter_map(|id| registry.certificate(id))
            .map(|certificate| certificate_row(service, &registry, certificate, now))
            .collect(),
    };
    Ok(Json(registry.operators().map(|(name, ids)| row(name, ids)).collect()))
}
