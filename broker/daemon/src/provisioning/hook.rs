//! The pre-provisioning hook: a program or a service that is asked before a thing is registered. Anything but a clear yes within
//! its time is a no.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};
use signet_config::{Hook, Provisioning};
use signet_identity::PrincipalKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::shares::HookPlaces;

/// The most bytes of a hook's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What the hook is asked, as AWS IoT Core asks its hooks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question<'a> {
    pub(super) claim_certificate_id: String,
    pub(super) certificate_id: String,
    pub(super) certificate_pem: String,
    /// The name again, where hooks made for AWS look for it.
    pub(super) template_arn: &'a str,
    pub(super) template_name: &'a str,
    pub(super) client_id: &'a str,
    pub(super) parameters: &'a BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    allow_provisioning: bool,
    #[serde(default)]
    parameter_overrides: Option<BTreeMap<String, String>>,
}

/// Why a hook is a no.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    /// It says no.
    #[error("the pre-provisioning hook said no")]
    Denied,
    /// It did not answer in time, or there was no place for it in that time.
    #[error("the pre-provisioning hook did not answer within [provisioning] hook-deadline")]
    Late,
    /// It could not be asked, or ended badly.
    #[error("the pre-provisioning hook failed: {0}")]
    Failed(String),
    /// Its answer is not the JSON that it should be.
    #[error("the pre-provisioning hook gave no answer that can be read: {0}")]
    Unreadable(String),
}

impl HookError {
    /// A short label from a closed set, for metrics.
    pub(super) const fn metric_label(&self) -> &'static str {
        match self {
            Self::Denied => "hook_denied",
            Self::Late => "hook_late",
            Self::Failed(_) => "hook_failed",
            Self::Unreadable(_) => "hook_unreadable",
        }
    }
}

/// Asks the hook for `asker`: `None` when there is none, else the parameters that it sets.
pub(super) async fn ask(
    rules: &Provisioning,
    places: &HookPlaces,
    asker: &PrincipalKey,
    question: &Question<'_>,
) -> Result<Option<BTreeMap<String, String>>, HookError> {
    if rules.hook == Hook::None {
        return Ok(None);
    }
    let text = serde_json::to_vec(question).map_err(|error| HookError::Failed(error.to_string()))?;
    let asking = async {
        let _place = places.take(asker).await.map_err(|error| HookError::Failed(error.to_string()))?;
        match &rules.hook {
            Hook::None => Ok(Vec::new()),
            Hook::Command(program) => run(program, &text).await,
            Hook::Http(url) => post(url, text).await,
        }
    };
    let answer = tokio::time::timeout(rules.hook_deadline, asking).await.map_err(|_| HookError::Late)??;
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|error| HookError::Unreadable(error.to_string()))?;
    if answer.allow_provisioning {
        Ok(Some(answer.parameter_overrides.unwrap_or_default()))
    } else {
        Err(HookError::Denied)
    }
}

/// A program. It ends with all that it started.
struct Running(Child);

impl Running {
    /// How it ends; what it started and left behind is ended then.
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(leader) = self.leader() {
            let left = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let ending = move || rustix::io::retry_on_intr(|| waitid(WaitId::Pid(leader), left));
            tokio::task::spawn_blocking(ending).await.map_err(std::io::Error::other)??;
            // It was not waited for yet, so the number of its group is nobody else's.
            self.end();
        }
        self.0.wait().await
    }

    /// It is the leader of a group of its own; `None` once it was waited for.
    fn leader(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    fn end(&self) {
        if let Some(leader) = self.leader() {
            // It may have ended this moment.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

async fn run(program: &Path, question: &[u8]) -> Result<Vec<u8>, HookError> {
    let failed = |error: std::io::Error| HookError::Failed(format!("{}: {error}", program.display()));
    let child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut running = Running(child);
    let (input, output) = (running.0.stdin.take(), running.0.stdout.take());
    let asking = async {
        if let Some(mut input) = input {
            // A hook that does not care for the question may close its input.
            drop(input.write_all(question).await);
        }
    };
    let mut answer = Vec::new();
    let answering = async {
        match output {
            Some(output) => output.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await,
            None => Ok(0),
        }
    };
    let ((), read) = tokio::join!(asking, answering);
    read.map_err(failed)?;
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(HookError::Unreadable("it is too long".to_owned()));
    }
    let status = running.ended().await.map_err(failed)?;
    if status.success() {
        Ok(answer)
    } else {
        Err(HookError::Failed(format!("{}: {status}", program.display())))
    }
}

async fn post(url: &str, question: Vec<u8>) -> Result<Vec<u8>, HookError> {
    let failed = |error: &dyn std::fmt::Display| HookError::Failed(format!("{url}: {error}"));
    let uri: hyper::Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| failed(&error))?;
    let host = uri.host().ok_or_else(|| failed(&"it has no host"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream =
        TcpStream::connect((bare, uri.port_u16().unwrap_or(80))).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driving = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    let request = hyper::Request::post(path)
        .header(hyper::header::HOST, uri.authority().map_or(host, hyper::http::uri::Authority::as_str))
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(question)))
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    driving.abort();
    if status != hyper::StatusCode::OK {
        return Err(failed(&status));
    }
    let body = body.map_err(|error| HookError::Unreadable(error.to_string()))?;
    Ok(body.to_bytes().to_vec())
}
