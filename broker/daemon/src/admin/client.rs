//! The operator's end of the admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::Refusal;

/// How long a running broker may take to answer. A reload with large files is the slowest.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why a command did not get its answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens at the socket.
    #[error("no broker answers at {}: {source}\n  hint: is it running, and is this its [admin] socket? --socket FILE or --config FILE names it", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The socket is there but may not be opened by this user.
    #[error("{} may not be opened by this user: run the command as the broker's user", path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The broker looked at the request and refused it.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The broker went away in the middle.
    #[error("the broker at {} ended the connection before it answered\n  hint: it was stopped or has crashed; its log says which", path.display())]
    Ended {
        /// The socket.
        path: PathBuf,
    },
    /// The answer did not come, or was not understood.
    #[error("the broker at {} did not answer as expected: {what}\n  hint: are the command and the broker of the same version?", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
}

/// Sends one request and decodes the answer.
pub async fn call<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&Q>,
) -> Result<A, AdminError> {
    let garbled = |what: String| AdminError::Garbled { path: socket.to_owned(), what };
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::PermissionDenied => AdminError::Forbidden { path: socket.to_owned() },
        _ => AdminError::Unreachable { path: socket.to_owned(), source },
    })?;
    let body = match body {
        Some(body) => serde_json::to_vec(body).map_err(|error| garbled(error.to_string()))?,
        None => Vec::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "signet")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| garbled(error.to_string()))?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok::<_, hyper::Error>((status, body))
    };
    let (status, body) = tokio::time::timeout(ANSWER_WITHIN, exchange)
        .await
        .map_err(|_| garbled(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?
        .map_err(|error| match error.is_parse() {
            true => garbled(error.to_string()),
            false => AdminError::Ended { path: socket.to_owned() },
        })?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| garbled(error.to_string()));
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => Err(AdminError::Refused(refusal.problems)),
        Err(_) => Err(garbled(format!("HTTP status {status}"))),
    }
}
