//! Answers and refusals of the routes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use signet_registry::{Fault, RegistryError};

use crate::admin::api::Refusal;
use crate::ca::ListError;
use crate::store::{ExecuteError, StoreError};

/// What a route gives.
pub(super) type Answer<T> = Result<Json<T>, Refused>;

/// Why a command was not carried out.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    problem: String,
}

impl Refused {
    /// What was asked for is wrong.
    pub(super) fn found(problem: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, problem: problem.into() }
    }

    /// A refusal with a status of its own.
    pub(super) fn with_status(status: StatusCode, problem: String) -> Self {
        Self { status, problem }
    }

    /// What is wrong.
    pub(super) fn problem(&self) -> &str {
        &self.problem
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { problems: vec![self.problem] })).into_response()
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let status = match error.fault() {
            Fault::Request => StatusCode::BAD_REQUEST,
            Fault::Denied => StatusCode::FORBIDDEN,
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::Conflict => StatusCode::CONFLICT,
            Fault::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, problem: error.to_string() }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            // A trail that is not what was recorded is what `verify` was asked to find.
            StoreError::Audit { .. } | StoreError::OlderCopy { .. } | StoreError::Exists(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, problem: error.to_string() }
    }
}

impl From<ExecuteError> for Refused {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Refused(refused) => refused.into(),
            ExecuteError::Store(store) => store.into(),
        }
    }
}

impl From<ListError> for Refused {
    fn from(error: ListError) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, problem: error.to_string() }
    }
}

/// Runs what waits for the disk or for a key on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map(Json),
        Err(error) => Err(Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            problem: format!("the command did not finish: {error}"),
        }),
    }
}
