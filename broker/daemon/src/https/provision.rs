//! First boot by token: `POST /provision`, and `POST /generate-token` for operators.

use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, body::Bytes};
use serde::{Deserialize, Deserializer, Serialize};
use signet_identity::{GroupName, Role, ThingName};
use signet_registry::ca::{CheckedCsr, CsrPolicy, SubjectRule};
use signet_registry::{Actor, Attempt, Groups, Line, ThingSpec, TokenHash};

use super::caller::{Bearing, InForce};
use super::refusal::{Refused, Shape};
use super::{At, Here, body, signing};
use crate::ca::certificate_pem;
use crate::signing::Right;
use crate::tokens::{self, TokenError, WantedToken};

/// The description of these operations, OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("../../../docs/provision.openapi.json");

/// `POST /provision`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provision {
    /// The secret.
    token: String,
    /// PKCS #10 in PEM.
    csr: String,
}

/// The answer to [`Provision`].
#[derive(Serialize)]
struct Provisioned {
    device_id: String,
    /// PEM.
    certificate: String,
    /// The authority's certificate and those above it, PEM one after the other.
    ca_chain: String,
}

/// `POST /generate-token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateToken {
    device_id: String,
    #[serde(default, deserialize_with = "whole")]
    valid_seconds: Option<u64>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    note: String,
}

/// The most characters of a note.
const NOTE_CHARS_MAX: usize = 200;

/// An integer as JSON has it: `3600`, and `3600.0` too (JSON Schema, validation, section 6.1.1).
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let text = number.to_string();
    let digits = text.strip_suffix(".0").unwrap_or(&text);
    digits
        .parse()
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("{text} is not a number of seconds")))
}

/// The answer to [`GenerateToken`].
#[derive(Serialize)]
struct GeneratedToken {
    token: String,
    device_id: String,
    /// RFC 3339.
    expires_at: String,
}

/// Adds the routes to `router`.
pub(super) fn routes(router: Router) -> Router {
    router
        .route("/provision", post(provision))
        .route("/generate-token", post(generate_token))
        .route("/openapi.json", get(openapi))
}

async fn openapi(Extension(here): At) -> Response {
    match here.provisions() {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response(),
        Err(refused) => Shape::Json.render(refused),
    }
}

async fn provision(Extension(here): At, headers: HeaderMap, body: Bytes) -> Response {
    match here.provision(&headers, &body).await {
        Ok(provisioned) => secret(Json(provisioned)),
        Err(refused) => Shape::Json.render(refused),
    }
}

async fn generate_token(Extension(here): At, headers: HeaderMap, body: Bytes) -> Response {
    match here.generate_token(&headers, &body).await {
        Ok(token) => secret(Json(token)),
        Err(refused) => Shape::Json.render(refused),
    }
}

/// Nobody between here and the client may keep the answer.
fn secret(answer: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

impl Here {
    fn provisions(&self) -> Result<(), Refused> {
        if self.settings.provision { Ok(()) } else { Err(Refused::not_found()) }
    }

    async fn provision(&self, headers: &HeaderMap, body: &[u8]) -> Result<Provisioned, Refused> {
        self.provisions()?;
        let asked: Provision = body::json(headers, body)?;
        let (token, device) = self.token(&asked.token, "somebody")?;
        let der = self.enrol_by_token(token, device.clone(), asked.csr.into_bytes(), None).await?;
        let authority = self.broker.authority().ok_or_else(Refused::internal)?;
        tracing::info!(%device, address = %self.caller.address(), "provisioned by token");
        Ok(Provisioned {
            device_id: device.to_string(),
            certificate: certificate_pem(&der),
            ca_chain: authority.chain().map(certificate_pem).collect(),
        })
    }

    /// The token with this secret and the device that it is for, when it can be used.
    pub(super) fn token(&self, secret: &str, whose: &str) -> Result<(TokenHash, ThingName), Refused> {
        let registry = self.broker.registry().ok_or_else(Refused::internal)?;
        let found = tokens::usable(&registry.registry(), secret, registry.now())
            .map(|token| (token.spec.hash, token.spec.thing.name.clone()));
        found.map_err(|error| {
            let refused = Refused::from(error);
            // A hash is recorded only if it is that of a token: anything else might be a password typed by mistake.
            self.record(Attempt::Token, whose, &refused, self.known_token(secret));
            refused
        })
    }

    fn known_token(&self, secret: &str) -> Option<Actor> {
        let hash = TokenHash::of(secret.as_bytes());
        self.broker.registry()?.registry().token(&hash).map(|_| Actor::Token(hash))
    }

    /// Certifies the key of a signing request, and uses the token up: the certificate in DER.
    pub(super) async fn enrol_by_token(
        &self,
        token: TokenHash,
        device: ThingName,
        csr: Vec<u8>,
        validity: Option<Duration>,
    ) -> Result<Vec<u8>, Refused> {
        let right = Right::Token(token);
        let rule = SubjectRule::MustEqual(device.clone());
        let given =
            self.certify(right.clone(), device.clone(), csr, rule, validity, Actor::Token(token)).await;
        if let Err(refused) = &given {
            self.record(right.attempt(), device.as_str(), refused, Some(Actor::Token(token)));
        }
        given
    }

    /// Checks a signing request and has its key certified.
    pub(super) async fn certify(
        &self,
        right: Right,
        name: ThingName,
        csr: Vec<u8>,
        subject: SubjectRule,
        validity: Option<Duration>,
        actor: Actor,
    ) -> Result<Vec<u8>, Refused> {
        let broker = std::sync::Arc::clone(&self.broker);
        signing(self, move || {
            let (Some(registry), Some(authority)) = (broker.registry(), broker.authority()) else {
                return Err(Refused::internal());
            };
            let policy = CsrPolicy { keys: authority.key_kinds().clone(), subject };
            let csr = CheckedCsr::parse(&csr, &policy)?;
            if let Right::Renewal(_) = right
                && let Some(holder) = actor.holder()
                && !broker.provisioning.admit_renewal(&broker, &holder)
            {
                return Err(Refused::renewals());
            }
            Ok(authority.certify(registry, &right, &name, csr.public_key(), validity, actor)?)
        })
        .await
    }

    async fn generate_token(&self, headers: &HeaderMap, body: &[u8]) -> Result<GeneratedToken, Refused> {
        self.provisions()?;
        let operator = self.operator()?;
        let asked: GenerateToken = body::json(headers, body)?;
        let wanted = wanted(&asked)?;
        let registry = self.broker.registry().ok_or_else(Refused::internal)?;
        let made = tokens::create(registry, wanted, operator.actor()).await.map_err(|error| match error {
            TokenError::Validity(_) => fields(error.to_string()),
            TokenError::NoRandomness => Refused::internal(),
            TokenError::Registry(error) => crate::ca::IssueRefused::from(error).into(),
        })?;
        let by = &operator.active.holder.name;
        tracing::info!(device = %made.device, token = %made.id, %by, "a one-time token was made over HTTPS");
        Ok(GeneratedToken {
            token: made.secret.expose().to_owned(),
            device_id: made.device.to_string(),
            expires_at: made.until.to_string(),
        })
    }

    /// The operator that the caller is.
    fn operator(&self) -> Result<Box<InForce>, Refused> {
        let refused = match self.caller.bearing(&self.broker) {
            Bearing::InForce(shown) if shown.active.holder.role == Role::Operator => return Ok(shown),
            Bearing::Nothing => Refused::unauthorized(
                "an operator's client certificate is needed",
                "ClientCertificate realm=\"operators\"",
            ),
            Bearing::InForce(_) => Refused::forbidden("role", "only an operator may do this"),
            Bearing::Refused(why) => Refused::forbidden("certificate", why),
        };
        self.record(Attempt::Command, "generate-token", &refused, None);
        Err(refused)
    }
}

fn fields(message: String) -> Refused {
    Refused::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "fields", message)
}

fn wanted(asked: &GenerateToken) -> Result<WantedToken, Refused> {
    let name = ThingName::try_from(asked.device_id.as_str())
        .map_err(|error| fields(format!("device_id cannot be a name: {error}")))?;
    if asked.note.chars().count() > NOTE_CHARS_MAX {
        return Err(fields(format!("note has more than {NOTE_CHARS_MAX} characters")));
    }
    let groups: Result<Vec<GroupName>, Refused> = asked
        .groups
        .iter()
        .map(|text| {
            GroupName::try_from(text.as_str())
                .map_err(|error| fields(format!("{text:?} cannot be a group: {error}")))
        })
        .collect();
    let groups = Groups::new(groups?).map_err(|error| fields(error.to_string()))?;
    Ok(WantedToken {
        thing: ThingSpec { groups, ..ThingSpec::named(name) },
        validity: asked.valid_seconds.map(Duration::from_secs),
        note: Line::new(&asked.note),
    })
}
