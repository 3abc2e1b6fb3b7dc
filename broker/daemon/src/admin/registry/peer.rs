//! Who is at the other end of the admin socket.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use signet_registry::{Actor, Line};
use tokio::net::UnixListener;

/// The process that gives a command, as the operating system tells it when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user and process number; `None` when the operating system does not say.
    credentials: Option<(u32, Option<i32>)>,
}

impl Peer {
    /// The one who acts, for the audit trail.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Local(Line::new(&match self.credentials {
            Some((uid, Some(pid))) => format!("uid {uid}, process {pid}"),
            Some((uid, None)) => format!("uid {uid}"),
            None => "somebody at the admin socket".to_owned(),
        }))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self { credentials: credentials.map(|who| (who.uid(), who.pid())) }
    }
}
