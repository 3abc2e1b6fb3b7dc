//! `CreateCertificateFromCsr` and `CreateKeysAndCertificate`.
//!
//! What is issued waits for its thing. Who it will be is not known yet for a newcomer, so the certificate's subject says nothing:
//! a name that no thing is expected to have, made of the serial number. The identity is what the registry binds it to.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use signet_core::provisioning::{Answer, CertificateAnswer, OwnershipToken, PrivateKey};
use signet_identity::{Role, ThingName};
use signet_registry::ca::{
    CheckedCsr, CsrPolicy, DeviceKey, IssueError, Issued, PublicKey, SubjectRule, issue, random_serial,
};
use signet_registry::{Command, IssueFor, NewCertificate, Registry, TokenHash};
use zeroize::Zeroizing;

use super::asker::At;
use super::refused::Refused;
use crate::ca::certificate_pem;

/// The random bytes of an ownership token; base64url makes 43 characters of them.
const TOKEN_BYTES: usize = 32;

/// Certifies the key of a signing request. Nothing else of the request counts; see [`CheckedCsr`].
pub(super) async fn from_csr(at: &At<'_>, csr: &str) -> Result<Answer, Refused> {
    let policy = CsrPolicy { keys: at.authority.key_kinds().clone(), subject: SubjectRule::Ignore };
    let key = tokio::task::block_in_place(|| CheckedCsr::parse(csr.as_bytes(), &policy))?;
    certify(at, key.public_key(), None).await
}

/// Makes a key and certifies it, where the claim or one of its templates allows that.
pub(super) async fn with_keys(at: &At<'_>) -> Result<Answer, Refused> {
    keys_allowed(at, &at.registry.registry())?;
    let made = tokio::task::block_in_place(DeviceKey::generate)?;
    let private = PrivateKey::new(Zeroizing::new(made.private.expose().to_owned()));
    certify(at, &made.public, Some(private)).await
}

fn keys_allowed(at: &At<'_>, registry: &Registry) -> Result<(), Refused> {
    let Some(claim) = at.claim(registry)? else { return Err(Refused::keys_not_allowed(true)) };
    let by_template = claim.spec.templates.iter().any(|name| {
        registry.template(name.as_str()).is_some_and(|template| template.spec.enabled && template.spec.keys)
    });
    if claim.spec.keys || by_template { Ok(()) } else { Err(Refused::keys_not_allowed(false)) }
}

async fn certify(at: &At<'_>, key: &PublicKey, private_key: Option<PrivateKey>) -> Result<Answer, Refused> {
    let asker = at.asker.certificate();
    let now = at.registry.now();
    // So that no key signs what would be refused; the command asks again.
    at.registry.registry().may_issue(IssueFor::Enrolment(&asker), &key.hash(), now)?;
    let issued = tokio::task::block_in_place(|| sign(at, key))?;
    let certificate = NewCertificate::read(&issued.der, at.authority.issuer().key_hash())
        .map_err(|error| Refused::failed("encode", error))?;
    let token = new_token()?;
    let until = now.after(at.broker.config.load().provisioning.ownership_token_validity);
    let command = Command::BeginEnrolment {
        certificate,
        asker,
        token: TokenHash::of(token.expose().as_bytes()),
        until,
    };
    at.in_time()?;
    at.registry.submit(command, at.asker.actor()).answer().await?;
    tracing::info!(
        by = %at.asker.principal.key(), certificate = %issued.certificate_id, address = %at.asker.address,
        client_id = &*at.asker.client_id, keys_made = private_key.is_some(), "a certificate was issued and waits for its thing"
    );
    Ok(Answer::Certificate(Box::new(CertificateAnswer {
        certificate_id: issued.certificate_id,
        certificate_pem: certificate_pem(&issued.der),
        token,
        private_key,
    })))
}

fn sign(at: &At<'_>, key: &PublicKey) -> Result<Issued, Refused> {
    let serial = random_serial().map_err(|_| IssueError::Serial)?;
    let name = match at.asker.principal.role() {
        Role::Device => at.asker.principal.name().clone(),
        Role::Claim | Role::Operator => unnamed(&serial)?,
    };
    let (issuer, profile) = (at.authority.issuer(), at.authority.profile());
    Ok(issue(issuer, key, &name, profile, at.registry.now(), serial)?)
}

/// The common name of a certificate whose thing is not known yet: of its own, and nobody's.
fn unnamed(serial: &[u8]) -> Result<ThingName, Refused> {
    use std::fmt::Write as _;
    let mut text = String::from("unnamed-");
    for byte in serial {
        write!(text, "{byte:02x}").map_err(|error| Refused::failed("name", error))?;
    }
    ThingName::try_from(text.as_str()).map_err(|error| Refused::failed("name", error))
}

fn new_token() -> Result<OwnershipToken, Refused> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| Refused::failed("randomness", "there is no randomness"))?;
    Ok(OwnershipToken::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_opaque_short_and_never_the_same() {
        let [a, b] = [new_token().unwrap(), new_token().unwrap()];
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), 43);
        assert!(a.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn a_certificate_without_a_thing_has_a_name_of_its_own() {
        let serial = [0xab; 16];
        assert_eq!(unnamed(&serial).unwrap().as_str(), format!("unnamed-{}", "ab".repeat(16)));
    }
}
