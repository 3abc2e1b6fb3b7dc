//! Commands that speak to a running broker over its admin socket.

use std::fmt::Write as _;
use std::path::PathBuf;

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::AdminArgs;
use super::out::{Failure, Outcome, say, say_json};
use crate::admin::api::{Kick, Kicked, Reloaded, SessionRow, Status};
use crate::admin::client::{self, AdminError};

fn socket(args: &AdminArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.config {
        let config =
            signet_config::load(path).map_err(|problems| Failure::found(signet_config::render(&problems)))?;
        return Ok(config.admin.socket);
    }
    args.named_socket().ok_or_else(|| {
        Failure::usage("which broker? give --config FILE, --socket FILE, or set SIGNET_SOCKET")
    })
}

pub(super) fn call<Q: Serialize, A: DeserializeOwned>(
    args: &AdminArgs,
    method: Method,
    path: &str,
    body: Option<&Q>,
) -> Result<A, Failure> {
    let socket = socket(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(error.to_string()))?;
    runtime.block_on(client::call(&socket, method, path, body)).map_err(|error| match error {
        AdminError::Refused(_) => Failure::found(error.to_string()),
        other => Failure::usage(other.to_string()),
    })
}

/// `signet reload`.
pub fn reload(args: &AdminArgs) -> Result<Outcome, Failure> {
    let reloaded: Reloaded = call(args, Method::POST, "/reload", None::<&()>)?;
    if args.json {
        say_json(&reloaded)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("reloaded: generation {} is in force\n", reloaded.generation);
    for (title, lines) in [
        ("changed", &reloaded.changed),
        ("needs a restart", &reloaded.needs_restart),
        ("warning", &reloaded.warnings),
    ] {
        for line in lines {
            let _ = writeln!(text, "  {title}: {line}");
        }
    }
    say(&text);
    Ok(Outcome::Done)
}

/// `signet status`.
pub fn status(args: &AdminArgs) -> Result<Outcome, Failure> {
    let status: Status = call(args, Method::GET, "/status", None::<&()>)?;
    if args.json {
        say_json(&status)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!(
        "signet {} up {} s, generation {}\n",
        status.version, status.uptime_seconds, status.generation
    );
    for listener in &status.listeners {
        let _ = writeln!(
            text,
            "  {:<22} {} connections, {} certificates on its revocation lists",
            listener.address, listener.connections, listener.revoked_certificates
        );
    }
    for (what, value) in [
        ("clients connected", status.connections),
        ("peers in handshake", status.half_open),
        ("sessions", status.sessions),
        ("subscriptions", status.subscriptions),
        ("retained messages", status.retained_messages),
        ("messages received", status.messages_received),
        ("messages sent", status.messages_sent),
        ("failed handshakes", status.tls_failures),
        ("access denied", status.access_denied),
    ] {
        let _ = writeln!(text, "  {what:<20} {value}");
    }
    say(&text);
    Ok(Outcome::Done)
}

/// `signet stop`.
pub fn stop(args: &AdminArgs) -> Result<Outcome, Failure> {
    let answer: serde_json::Value = call(args, Method::POST, "/stop", None::<&()>)?;
    if args.json {
        say_json(&answer)?;
    } else {
        say("the broker is stopping\n");
    }
    Ok(Outcome::Done)
}

/// `signet sessions list`.
pub fn sessions(args: &AdminArgs) -> Result<Outcome, Failure> {
    let mut rows: Vec<SessionRow> = call(args, Method::GET, "/sessions", None::<&()>)?;
    rows.sort_by(|a, b| (&a.name, &a.client_id).cmp(&(&b.name, &b.client_id)));
    if args.json {
        say_json(&rows)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:<9} {:<28} {:<12} {:<22} {:>5} {:>7}",
        "NAME", "ROLE", "CLIENT ID", "STATE", "ADDRESS", "SUBS", "QUEUED"
    );
    for row in &rows {
        let state = match (row.connected, &row.protocol) {
            (true, Some(protocol)) => format!("mqtt {protocol}"),
            (true, None) => "connected".to_owned(),
            (false, _) => "away".to_owned(),
        };
        let _ = writeln!(
            text,
            "{:<24} {:<9} {:<28} {:<12} {:<22} {:>5} {:>7}",
            row.name,
            row.role,
            row.client_id.escape_debug().to_string(),
            state,
            row.address.as_deref().unwrap_or("-"),
            row.subscriptions,
            row.queued
        );
    }
    say(&text);
    Ok(Outcome::Done)
}

/// `signet sessions kick`.
pub fn kick(args: &AdminArgs, name: String, client_id: Option<String>) -> Result<Outcome, Failure> {
    let kicked: Kicked = call(args, Method::POST, "/sessions/kick", Some(&Kick { name, client_id }))?;
    if args.json {
        say_json(&kicked)?;
    } else {
        say(&format!("{} connections closed; the name may connect again\n", kicked.closed));
    }
    Ok(Outcome::Done)
}
