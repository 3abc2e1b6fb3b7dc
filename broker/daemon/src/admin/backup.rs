//! `POST /backup`: copies of everything that outlives the process, while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use signet_registry::{Actor, Command, Line, Topic};

use super::api::Refusal;
use super::registry::Peer;
use super::registry::api::{BackedUp, MadeBackup, MakeBackup, MessagesBackup};
use crate::server::Broker;
use crate::store::messages::write_copy;

/// What is appended to the name of the registry's copy for that of sessions and messages.
pub const MESSAGES: &str = ".messages";

/// The copy of sessions and messages that goes with the copy `registry` of the registry.
#[must_use]
pub fn messages_beside(registry: &Path) -> PathBuf {
    let mut path = registry.as_os_str().to_owned();
    path.push(MESSAGES);
    path.into()
}

pub(super) async fn backup(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(wanted): Json<MakeBackup>,
) -> Response {
    let done =
        tokio::task::spawn_blocking(move || copy(&broker, &peer.actor(), &PathBuf::from(wanted.to))).await;
    match done {
        Ok(Ok(made)) => Json(made).into_response(),
        Ok(Err(problem)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(Refusal { problems: vec![problem] })).into_response()
        }
        Err(error) => {
            let problems = vec![format!("the backup did not finish: {error}")];
            (StatusCode::INTERNAL_SERVER_ERROR, Json(Refusal { problems })).into_response()
        }
    }
}

fn copy(broker: &Broker, actor: &Actor, to: &Path) -> Result<BackedUp, String> {
    if !to.is_absolute() {
        return Err(
            "the path of a backup must be absolute: the broker has another working directory".to_owned()
        );
    }
    // The moment of the messages comes first: nobody is among them whom the registry does not know.
    let snapshot = broker.kept.snapshot().transpose().map_err(|error| error.to_string())?;
    let registry = broker.registry();
    if snapshot.is_none() && registry.is_none() {
        return Err(
            "this broker keeps nothing on disk: it has no registry and no [store] directory".to_owned()
        );
    }
    let beside = messages_beside(to);
    if snapshot.is_some() && beside.exists() {
        return Err(format!("{}: it exists already", beside.display()));
    }
    let mut made = BackedUp { registry: None, messages: None };
    if let Some(registry) = registry {
        let copied = registry.backup(to).map_err(|error| error.to_string())?;
        made.registry = Some(MadeBackup {
            file: to.display().to_string(),
            head: copied.head.to_string(),
            bytes: copied.bytes,
        });
        let text = Line::new(&format!("written to {}, ends at {}", to.display(), copied.head));
        let note = Command::Note { topic: Topic::Backup, text };
        registry.execute(note, actor.clone()).map_err(|error| error.to_string())?;
    }
    if let Some(snapshot) = snapshot {
        let copied = write_copy(&*snapshot, &beside).map_err(|error| error.to_string())?;
        made.messages = Some(MessagesBackup {
            file: copied.path.display().to_string(),
            rows: copied.rows,
            bytes: copied.bytes,
        });
    }
    Ok(made)
}
