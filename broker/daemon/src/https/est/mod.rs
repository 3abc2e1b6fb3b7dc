//! Enrollment over Secure Transport (RFC 7030, as RFC 8951 and RFC 8996 amend it).
//!
//! What a client proves decides what it gets: a one-time token (HTTP Basic, the device's name and the token) or a
//! certificate in force enrols, a certificate in force renews itself. Linking the request to the TLS session (section 3.5)
//! is not asked for: TLS 1.3 has no `tls-unique`.

mod encode;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Path};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signet_config::EstLabel;
use signet_identity::{PrincipalKey, Role, ThingName};
use signet_registry::ca::{CheckedCsr, CsrPolicy, KeyKind, Names, SubjectRule, VALIDITY_MIN};
use signet_registry::{Actor, ApprovalRequest, Attempt, Command, Line, RequestId, Source, TokenHash};

use super::caller::{Bearing, InForce};
use super::refusal::{Refused, Shape};
use super::{At, Here, body, signing};
use crate::signing::Right;

/// What a client that has shown nothing is asked for.
const CHALLENGE: &str = "Basic realm=\"EST\", charset=\"UTF-8\"";
/// After how many seconds a client asks again whether its enrolment was approved: a quarter of the time that it has waited, so
/// that a quick answer is fetched soon and a fleet that waits for days is no load.
const ASK_AGAIN_SECS: std::ops::RangeInclusive<u64> = 5..=300;

/// Adds the routes to `router`: each operation without a label, with one (RFC 7030 section 3.2.2), and with one in the place
/// where strongSwan puts what it is given after the host.
pub(super) fn routes(mut router: Router) -> Router {
    for path in ["/.well-known/est", "/.well-known/est/{label}", "/{label}/.well-known/est"] {
        router = router
            .route(&format!("{path}/cacerts"), get(cacerts))
            .route(&format!("{path}/csrattrs"), get(csrattrs))
            .route(&format!("{path}/simpleenroll"), post(simpleenroll))
            .route(&format!("{path}/simplereenroll"), post(simplereenroll));
    }
    router
}

type Label = Option<Path<String>>;

async fn cacerts(Extension(here): At, label: Label) -> Response {
    respond(here.cacerts(label))
}

async fn csrattrs(Extension(here): At, label: Label) -> Response {
    respond(here.csrattrs(label))
}

async fn simpleenroll(Extension(here): At, label: Label, headers: HeaderMap, body: Bytes) -> Response {
    respond(here.simpleenroll(label, &headers, &body).await)
}

async fn simplereenroll(Extension(here): At, label: Label, headers: HeaderMap, body: Bytes) -> Response {
    respond(here.simplereenroll(label, &headers, &body).await)
}

fn respond(answer: Result<Response, Refused>) -> Response {
    answer.unwrap_or_else(|refused| Shape::Text.render(refused))
}

/// What gives a client the right to enrol.
enum Proof {
    Token(TokenHash, ThingName),
    Certificate(Box<InForce>),
}

impl Proof {
    const fn name(&self) -> &ThingName {
        match self {
            Self::Token(_, name) => name,
            Self::Certificate(shown) => &shown.active.holder.name,
        }
    }

    fn actor(&self) -> Actor {
        match self {
            Self::Token(hash, _) => Actor::Token(*hash),
            Self::Certificate(shown) => shown.actor(),
        }
    }
}

impl Here {
    /// The settings of a label.
    fn label(&self, label: Label) -> Result<EstLabel, Refused> {
        let unknown = || Refused::new(StatusCode::NOT_FOUND, "label", "there is no such label");
        if !self.settings.est {
            return Err(Refused::not_found());
        }
        let name = label.map(|Path(name)| name);
        let config = self.broker.config.load();
        let known = config.est_labels.iter().find(|known| known.name == name).cloned();
        known.or_else(|| name.is_none().then_some(EstLabel::DEFAULT)).ok_or_else(unknown)
    }

    fn cacerts(&self, label: Label) -> Result<Response, Refused> {
        let label = self.label(label)?;
        let authority = self.broker.authority().ok_or_else(Refused::internal)?;
        Ok(certificates(authority.chain(), &label, "application/pkcs7-mime"))
    }

    /// Says which key is best: the smallest one that is certified.
    fn csrattrs(&self, label: Label) -> Result<Response, Refused> {
        let label = self.label(label)?;
        let authority = self.broker.authority().ok_or_else(Refused::internal)?;
        let wanted = [KeyKind::P256, KeyKind::P384]
            .into_iter()
            .find(|kind| authority.key_kinds().allow(*kind))
            .and_then(encode::csr_attributes);
        Ok(match wanted {
            Some(der) => encoded(&der, &label, "application/csrattrs"),
            None => StatusCode::NO_CONTENT.into_response(),
        })
    }

    async fn simpleenroll(
        &self,
        label: Label,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response, Refused> {
        let label = self.label(label)?;
        let proof = self.proof(headers)?;
        let csr = signing_request(headers, body)?;
        if label.approval
            && let Some(wait) = self.approval(&label, &proof, &csr).await?
        {
            return Ok(wait);
        }
        let (name, actor) = (proof.name().clone(), proof.actor());
        let asked = RequestId::of(&name, label.name.as_deref(), &csr);
        let der = match &proof {
            Proof::Token(token, _) => self.enrol_by_token(*token, name, csr, label.validity).await?,
            Proof::Certificate(shown) => {
                let rule = SubjectRule::MustEqual(name.clone());
                self.renew(shown, rule, csr, &label, actor.clone()).await?
            }
        };
        self.end_approval(asked, actor).await;
        Ok(certificates(std::iter::once(der.as_slice()), &label, ENROLLED))
    }

    async fn simplereenroll(
        &self,
        label: Label,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response, Refused> {
        let label = self.label(label)?;
        let shown = match self.caller.bearing(&self.broker) {
            Bearing::InForce(shown) => shown,
            other => return Err(self.not_proven(other, "simplereenroll")),
        };
        let csr = signing_request(headers, body)?;
        let names = Names::of_certificate(&shown.leaf).ok_or_else(Refused::internal)?;
        let actor = shown.actor();
        let der = self.renew(&shown, SubjectRule::SameAs(names), csr, &label, actor).await?;
        Ok(certificates(std::iter::once(der.as_slice()), &label, ENROLLED))
    }

    /// A certificate that takes the place of the one that was shown.
    async fn renew(
        &self,
        shown: &InForce,
        rule: SubjectRule,
        csr: Vec<u8>,
        label: &EstLabel,
        actor: Actor,
    ) -> Result<Vec<u8>, Refused> {
        let name = &shown.active.holder.name;
        let right = Right::Renewal(shown.certificate);
        let validity = self.validity_of_renewal(shown, label);
        let given = self.certify(right.clone(), name.clone(), csr, rule, validity, actor.clone()).await;
        match &given {
            Ok(_) => {
                tracing::info!(%name, address = %self.caller.address(), "a certificate was renewed over EST");
            }
            Err(refused) => self.record(right.attempt(), name.as_str(), refused, Some(actor)),
        }
        given
    }

    /// How long a renewed certificate is good: as the label says, and no longer than the one that it takes the place of if this
    /// broker gave that, for the client chooses the label. One that was cut short by its authority's end is no measure.
    fn validity_of_renewal(&self, shown: &InForce, label: &EstLabel) -> Option<Duration> {
        let service = self.broker.registry()?;
        let authority = self.broker.authority()?;
        let registry = service.registry();
        let profile = authority.profile();
        let of_label = label.validity.unwrap_or_else(|| profile.validity());
        let old = registry.certificate(&shown.certificate)?;
        let issuer_ends = registry.ca_by_key(&old.facts.issuer).map(|ca| ca.not_after);
        if old.source != Source::Own || issuer_ends == Some(old.facts.not_after) {
            return label.validity;
        }
        let secs = u64::try_from(old.facts.not_after - old.facts.not_before).unwrap_or(0);
        let lived = Duration::from_secs(secs).saturating_sub(profile.backdate()).max(VALIDITY_MIN);
        Some(of_label.min(lived))
    }

    /// What the client proves; Basic before the certificate, for it was given for this request.
    fn proof(&self, headers: &HeaderMap) -> Result<Proof, Refused> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let denied = || Refused::unauthorized("the device and the token do not go together", CHALLENGE);
            let shown = value.to_str().ok().and_then(basic);
            let Some((device, secret)) = shown else {
                let refused = denied();
                self.record(Attempt::Token, "simpleenroll", &refused, None);
                return Err(refused);
            };
            let (token, name) = self.token(&secret, self.whose(&device)).map_err(|_| denied())?;
            if name.as_str() == device {
                return Ok(Proof::Token(token, name));
            }
            let refused = denied();
            self.record(Attempt::Token, self.whose(&device), &refused, Some(Actor::Token(token)));
            return Err(refused);
        }
        match self.caller.bearing(&self.broker) {
            Bearing::InForce(shown) if shown.active.holder.role != Role::Claim => {
                Ok(Proof::Certificate(shown))
            }
            other => Err(self.not_proven(other, "simpleenroll")),
        }
    }

    /// What is logged and recorded of a user name that nothing vouches for: itself, if it is the name of a thing or of a token's
    /// device. Else it may be anything, a secret in the wrong field too.
    fn whose<'a>(&self, device: &'a str) -> &'a str {
        let known = self.broker.registry().is_some_and(|registry| {
            let registry = registry.registry();
            registry.thing(device).is_some()
                || ThingName::try_from(device).is_ok_and(|name| registry.has_token(&name))
        });
        if known { device } else { "somebody" }
    }

    /// The refusal of one who has shown nothing, or nothing that is of use here.
    fn not_proven(&self, bearing: Bearing, operation: &str) -> Refused {
        let refused = match bearing {
            // Most clients begin without; this is no attempt at anything.
            Bearing::Nothing => {
                return match operation {
                    "simpleenroll" => Refused::unauthorized(
                        "show a certificate in force, or the device's name and a one-time token",
                        CHALLENGE,
                    ),
                    _ => Refused::forbidden(
                        "certificate",
                        "connect with the certificate that is to be renewed",
                    ),
                };
            }
            Bearing::InForce(_) => {
                Refused::forbidden("role", "a claim enrols devices over MQTT, not over EST")
            }
            Bearing::Refused(why) => Refused::forbidden("certificate", why),
        };
        self.record(Attempt::Renew, operation, &refused, None);
        refused
    }

    /// Whether an operator has approved; the answer to give until then.
    async fn approval(
        &self,
        label: &EstLabel,
        proof: &Proof,
        csr: &[u8],
    ) -> Result<Option<Response>, Refused> {
        let authority = self.broker.authority().ok_or_else(Refused::internal)?;
        let name = proof.name();
        let rule = SubjectRule::MustEqual(name.clone());
        let policy = CsrPolicy { keys: authority.key_kinds().clone(), subject: rule };
        // An operator is not asked about what would be refused after that.
        let request = csr.to_vec();
        let key = signing(self, move || Ok(CheckedCsr::parse(&request, &policy)?.key_hash())).await?;
        let registry = self.broker.registry().ok_or_else(Refused::internal)?;
        let (id, now) = (RequestId::of(name, label.name.as_deref(), csr), registry.now());
        let known = registry.registry().approval(&id, now).cloned();
        if known.as_ref().is_none_or(|known| known.to_be_noted(now)) {
            // Each is a row of the audit trail, so no device has them written without end.
            let device = PrincipalKey { role: Role::Device, name: name.clone() };
            if !self.broker.provisioning.admit_renewal(&self.broker, &device) {
                return Err(Refused::renewals());
            }
            let address = Line::new(&self.caller.address().ip().to_string());
            let label = label.name.as_deref().map(Line::new);
            let request = ApprovalRequest { id, device: name.clone(), key, label, address };
            let noted = registry.submit(Command::AskApproval(request), proof.actor()).answer().await;
            noted.map_err(crate::ca::IssueRefused::from)?;
        }
        match known.as_ref().map(|known| known.approved) {
            Some(Some(true)) => Ok(None),
            Some(Some(false)) => {
                let refused = Refused::forbidden("rejected", "an operator has rejected this enrolment");
                self.record(Attempt::Issue, name.as_str(), &refused, Some(proof.actor()));
                Err(refused)
            }
            Some(None) | None => {
                if known.is_none() {
                    tracing::warn!(device = %name, address = %self.caller.address(), "an enrolment waits for approval: `signet est pending`");
                }
                let waited = known.map_or(0, |known| now.0.saturating_sub(known.first.0) / 1000);
                let after = (waited / 4).clamp(*ASK_AGAIN_SECS.start(), *ASK_AGAIN_SECS.end());
                let after = [(header::RETRY_AFTER, after.to_string())];
                let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
                Ok(Some(
                    (StatusCode::ACCEPTED, after, kind, "an operator has to approve this\n").into_response(),
                ))
            }
        }
    }

    /// What was approved was approved for one certificate, which is there.
    async fn end_approval(&self, request: RequestId, actor: Actor) {
        let Some(registry) = self.broker.registry() else { return };
        if registry.registry().approval(&request, registry.now()).is_none() {
            return;
        }
        if let Err(error) = registry.submit(Command::EndApproval(request), actor).answer().await {
            tracing::error!(%request, %error, "an approval that was used could not be ended");
        }
    }
}

/// The media type of a certificate that was just signed.
const ENROLLED: &str = "application/pkcs7-mime; smime-type=certs-only";
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

fn certificates<'a>(der: impl Iterator<Item = &'a [u8]>, label: &EstLabel, kind: &'static str) -> Response {
    encoded(&encode::certs_only(der), label, kind)
}

fn encoded(der: &[u8], label: &EstLabel, kind: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (TRANSFER_ENCODING, "base64")];
    (headers, encode::base64(der, label.columns)).into_response()
}

/// The device's name and the token, of a header of the scheme Basic (RFC 7617). A name may have a colon, a token has none.
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (device, token) = decoded.rsplit_once(':')?;
    Some((device.to_owned(), token.to_owned()))
}

/// The signing request in a body: base64 on one line or several, PEM, or DER as it is. What the client says of its transfer
/// encoding is not looked at (RFC 8951 section 3.1).
fn signing_request(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Refused> {
    if !body::is_of(headers, "application/pkcs10") {
        return Err(Refused::media_type("application/pkcs10"));
    }
    encode::signing_request(body).ok_or_else(|| {
        Refused::new(
            StatusCode::BAD_REQUEST,
            "csr",
            "the body is not a signing request: base64 of PKCS #10 is needed",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_split_at_the_last_colon() {
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let pair = |text: &str| basic(&header(text));
        assert_eq!(pair("sensor:1:tok"), Some(("sensor:1".to_owned(), "tok".to_owned())));
        assert_eq!(basic(&header("a:b").replace("Basic", "bAsIc")), Some(("a".to_owned(), "b".to_owned())));
        assert_eq!(pair("no colon"), None);
        for wrong in ["Bearer YTpi", "Basic", "Basic %%%", "Basic /////w=="] {
            assert_eq!(basic(wrong), None, "{wrong}");
        }
    }
}
