//! Why a request was refused: for the client, in the form that its protocol has for that, and for the audit trail.

use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use signet_registry::ca::CsrError;
use signet_registry::{Actor, Attempt, Fault, RegistryError};

use super::Here;
use crate::ca::IssueRefused;
use crate::logging::Admit;

/// After how many seconds a client may try again what could not be done now.
const RETRY_SECS: u64 = 5;

/// A refusal.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// What was wrong, out of a closed set; for programs.
    pub(super) error: &'static str,
    /// What was wrong and what to do, for people; it names nothing that the client has not said itself.
    pub(super) message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The form of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `{"error", "message"}`.
    Json,
    /// A line of text (RFC 7030 section 4.2.3).
    Text,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
}

impl Shape {
    /// That of the protocol which the path belongs to.
    pub(super) fn of(path: &str) -> Self {
        if path.contains("/.well-known/est/") { Self::Text } else { Self::Json }
    }

    pub(super) fn render(self, refused: Refused) -> Response {
        let Refused { status, error, message, header } = refused;
        let mut response = match self {
            Self::Json => (status, axum::Json(Body { error, message: &message })).into_response(),
            Self::Text => {
                let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
                (status, kind, format!("{message}\n")).into_response()
            }
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
    }

    pub(super) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "the method is not one of this path: the header Allow names those",
        )
    }

    pub(super) fn media_type(expected: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", format!("the body must be {expected}"))
    }

    pub(super) fn too_large(max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body may have {max} bytes"))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come in time")
            .with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn pace(retry_secs: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate", "this address makes too many requests")
            .with(header::RETRY_AFTER, retry_secs)
    }

    pub(super) fn renewals() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate", "this device asks for too many certificates")
            .with(header::RETRY_AFTER, RETRY_SECS)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .with(header::RETRY_AFTER, RETRY_SECS)
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the broker failed; its log says why")
    }

    /// Somebody must say who they are first.
    pub(super) fn unauthorized(message: impl Into<String>, how: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(how))
    }

    pub(super) fn forbidden(error: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error, message)
    }

    /// The token is not good. Which of the reasons it is, is not said.
    pub(super) fn token() -> Self {
        Self::forbidden("token", RegistryError::OneTimeToken.to_string())
    }
}

impl From<CsrError> for Refused {
    fn from(error: CsrError) -> Self {
        let status = match error {
            // Whoever renews may not become somebody else (RFC 7030 section 4.2.2).
            CsrError::Renamed => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, "csr", format!("{error}: {}", error.hint()))
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let (status, label) = match (&error, error.fault()) {
            (RegistryError::OneTimeToken, _) => return Self::token(),
            (_, Fault::Request) => (StatusCode::BAD_REQUEST, "request"),
            (_, Fault::Denied | Fault::NotFound) => (StatusCode::FORBIDDEN, "denied"),
            (_, Fault::Conflict) => (StatusCode::CONFLICT, "conflict"),
            (_, Fault::Exhausted | Fault::Unavailable) => return Self::busy(error.to_string()),
        };
        Self::new(status, label, error.to_string())
    }
}

impl From<IssueRefused> for Refused {
    fn from(refused: IssueRefused) -> Self {
        match refused {
            IssueRefused::Csr(error) => error.into(),
            IssueRefused::Key(error) => CsrError::Key(error).into(),
            IssueRefused::Registry(error) => error.into(),
            // What is wrong inside the broker is for its log.
            IssueRefused::Issue(error) => {
                tracing::error!(%error, "a certificate was not signed");
                Self::busy("the certificate cannot be signed now")
            }
            IssueRefused::Store(error) => {
                tracing::error!(%error, "a certificate was not stored");
                Self::busy("the certificate cannot be stored now")
            }
        }
    }
}

impl Here {
    /// Logs a refusal and records it in the audit trail; the first few of an address in a minute.
    pub(super) fn record(&self, attempt: Attempt, whose: &str, refused: &Refused, actor: Option<Actor>) {
        let address = self.caller.address();
        let Admit::Log { suppressed } =
            self.broker.https.recorded.admit(address.ip(), self.broker.clock.mono())
        else {
            self.broker.metrics.log_suppressed.inc();
            return;
        };
        let why = refused.message.as_str();
        tracing::warn!(%address, whose, status = refused.status.as_u16(), suppressed, "refused over HTTPS: {why}");
        if let Some(registry) = self.broker.registry() {
            let actor = actor.unwrap_or_else(|| self.caller.unknown());
            let text = format!("{address} {whose}: {why}");
            registry.record_refusal(attempt, &text, suppressed.into(), actor);
        }
    }
}
