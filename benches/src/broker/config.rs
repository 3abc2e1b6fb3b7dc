//! The configurations of the brokers: the same certificates, the same policy, the same bounds.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Keep, Setup};
use crate::pki::{Crls, Pki};

/// The queues of absent subscribers hold whole runs.
const DEEP_QUEUES: &str = "queued-messages-max = 1000000\nqueued-bytes-max = \"1GiB\"\n\
    outbox-bytes-max = \"1GiB\"\n";

/// The limits that concern one address or one name are lifted, since all clients of a run come from one address, and all subscribers of a
/// fan-out have one name; Mosquitto has no such limits.
pub(super) fn signet(pki: &Pki, setup: &Setup, connections: usize, crls: Option<&Crls>) -> String {
    let crl = crls.map_or(String::new(), |crls| {
        format!(
            "crl = [\"{}\", \"{}\", \"{}\"]\n",
            crls.root.display(),
            crls.issuing.display(),
            crls.other.display()
        )
    });
    // All devices of a run are registered at their first connect, or with one claim and from one address.
    let registry = if setup.registry {
        "\n[registry]\nmode = \"on\"\n\n[ca]\n\n[provisioning]\njust-in-time-per-authority-per-second = 0\n\
         requests-per-principal-per-second = 0\nrequests-per-address-per-second = 0\n"
    } else {
        ""
    };
    let standing = setup
        .refused_pause
        .map_or(String::new(), |pause| format!("\n[standing]\nrefused-pause-max = \"{pause}\"\n"));
    let store = match setup.keep {
        Keep::Memory => "",
        Keep::Batched => "\n[store]\ndirectory = \"data\"\ndurability = \"batched\"\n",
        Keep::Strict => "\n[store]\ndirectory = \"data\"\n",
    };
    let queues = if setup.deep_queues { DEEP_QUEUES } else { "" };
    let mut anchors = vec![pki.root().display().to_string()];
    if setup.issuing_anchors {
        anchors.extend([pki.issuing(), pki.other()].map(|path| path.display().to_string()));
    }
    if setup.registry {
        // Devices that the broker has certified present their leaf alone.
        anchors.push("ca/issuing.crt".to_owned());
    }
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
certificate = "{chain}"
private-key = "{key}"
client-ca = {anchors:?}
{crl}max-connections = {connections}
session-tickets = {tickets}

[acl]
file = "{policy}"

[limits]
handshakes-per-address-per-second = 0
connections-per-address-max = 0
connects-per-principal-per-second = 0
queued-bytes-per-principal-max = "64GiB"
subscriptions-per-principal-max = 10000000
sessions-per-principal-max = {connections}
handshakes-in-flight-max = {in_flight}
retained-messages-max = 1000000
{queues}
[admin]
socket = "signet.sock"

[log]
level = "error"
{registry}{standing}{store}"#,
        chain = pki.server_chain().display(),
        key = pki.server_key().display(),
        tickets = setup.tickets,
        policy = pki.policy().display(),
        in_flight = connections.clamp(1024, 4096),
    )
}

/// Files that Mosquitto takes as one each.
pub(super) struct Files {
    pub(super) anchors: PathBuf,
    pub(super) crl: Option<PathBuf>,
}

impl Files {
    pub(super) fn write(pki: &Pki, setup: &Setup, crls: Option<&Crls>, directory: &Path) -> Result<Self> {
        let join = |name: &str, parts: &[PathBuf]| -> Result<PathBuf> {
            let mut text = String::new();
            for part in parts {
                text.push_str(&fs::read_to_string(part)?);
            }
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let mut anchors = vec![pki.root()];
        if setup.issuing_anchors {
            anchors.extend([pki.issuing(), pki.other()]);
        }
        let all =
            |crls: &Crls| join("all.crl", &[crls.root.clone(), crls.issuing.clone(), crls.other.clone()]);
        Ok(Self { anchors: join("anchors.pem", &anchors)?, crl: crls.map(all).transpose()? })
    }
}

/// As its manual advises for mutual TLS; `user root` only says that it need not give up rights that it may not have.
pub(super) fn mosquitto(
    port: u16,
    pki: &Pki,
    connections: usize,
    files: &Files,
    keep: Keep,
    directory: &Path,
) -> String {
    let persistence = match keep {
        Keep::Memory => "persistence false".to_owned(),
        Keep::Batched => {
            format!("persistence true\nautosave_interval 1\npersistence_location {}/", directory.display())
        }
        Keep::Strict => format!("persistence true\npersistence_location {}/", directory.display()),
    };
    let crl = &files.crl;
    let crl = crl.as_deref().map_or(String::new(), |file| format!("crlfile {}\n", file.display()));
    format!(
        "user root
per_listener_settings false
listener {port} 127.0.0.1
cafile {anchors}
certfile {chain}
keyfile {key}
{crl}require_certificate true
use_identity_as_username true
acl_file {policy}
allow_anonymous false
max_connections {connections}
max_queued_messages 0
set_tcp_nodelay true
{persistence}
log_type none
",
        anchors = files.anchors.display(),
        chain = pki.server_chain().display(),
        key = pki.server_key().display(),
        policy = pki.policy().display(),
    )
}

/// rumqttd has no access control. Whether it asks for client certificates was decided when it was built.
pub(super) fn rumqttd(address: SocketAddr, pki: &Pki, connections: usize) -> String {
    let tls = format!(
        "certpath = \"{}\"\nkeypath = \"{}\"\ncapath = \"{}\"\n",
        pki.server_chain().display(),
        pki.server_key().display(),
        pki.root().display()
    );
    format!(
        "id = 0

[router]
id = 0
max_connections = {connections}
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v4.1]
name = \"v4-1\"
listen = \"{address}\"
next_connection_delay_ms = 0

[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 100
dynamic_filters = true

[v4.1.tls]
{tls}"
    )
}
