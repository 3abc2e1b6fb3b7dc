//! Mosquitto in the place of the broker, so that its figures can stand beside ours: `SIGNET_FLOODS_BESIDE=mosquitto`. What only
//! Signet promises is not asserted of it; what came of each flood is told all the same.
//!
//! It has the same certificates, the same rights, the list of revoked certificates, persistence, and else its defaults.
//! `SIGNET_FLOODS_BESIDE_CONF` adds lines to its configuration, such as `memory_limit 67108864`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// The rights of [`crate::site::POLICY`] in its own words.
const POLICY: &str =
    "user admin\ntopic readwrite #\n\npattern readwrite shared/#\npattern readwrite devices/%u/#\n";

/// It is ended before this machine has no memory left, in bytes.
const ADDRESS_SPACE_MAX: u64 = 8 << 30;

/// Whether the floods meet Mosquitto.
pub(crate) fn is_asked_for() -> bool {
    match std::env::var("SIGNET_FLOODS_BESIDE") {
        Err(_) => false,
        Ok(name) if name == "mosquitto" => true,
        Ok(other) => panic!("SIGNET_FLOODS_BESIDE is mosquitto or nothing, not {other:?}"),
    }
}

/// How it is started with what is in the folder, and where it will listen.
pub(crate) fn command(directory: &Path) -> (Command, SocketAddr) {
    // It takes no port 0; between this look and its start somebody else could have it, then it does not start.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let address = free.expect("there is a free port");
    let path = |name: &str| directory.join(name);
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("it was written");
    let write = |name: &str, text: String| std::fs::write(path(name), text).expect("a file");
    write("anchors.crt", read("root-ca.crt") + &read("issuing-ca.crt"));
    write("mosquitto.acl", POLICY.to_owned());
    let more = std::env::var("SIGNET_FLOODS_BESIDE_CONF").unwrap_or_default();
    write(
        "mosquitto.conf",
        format!(
            "listener {port} 127.0.0.1\ncafile anchors.crt\ncertfile server-chain.crt\nkeyfile server.key\ncrlfile issuing.crl\n\
             require_certificate true\nuse_identity_as_username true\nacl_file mosquitto.acl\nset_tcp_nodelay true\n\
             user root\npersistence true\npersistence_location {directory}/\nlog_dest stderr\nlog_type error\n{more}\n",
            port = address.port(),
            directory = directory.display(),
        ),
    );
    let mut command = Command::new("prlimit");
    command.args([&format!("--as={ADDRESS_SPACE_MAX}"), "--nofile=20000:20000"]);
    command.args(["mosquitto", "-c", "mosquitto.conf"]).env("PATH", search_path());
    (command, address)
}

/// Debian has it where only root looks.
fn search_path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}
