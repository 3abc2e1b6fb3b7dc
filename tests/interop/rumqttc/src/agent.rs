//! What both protocol versions share: the wanted connection in, events out.

use rumqttc::{TlsConfiguration, Transport};
use serde_json::Value;
use std::io::{BufRead, Write};

/// The connection to make, as the test described it.
pub fn wanted() -> Value {
    let text = std::env::args().nth(1).expect("one JSON argument");
    serde_json::from_str(&text).expect("the argument is JSON")
}

/// Writes one event line.
pub fn emit(event: Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}").expect("the test reads our events");
}

/// The test's operations until it closes our standard input.
pub fn operations() -> impl Iterator<Item = Value> {
    std::io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .map(|line| serde_json::from_str(&line).expect("an operation is JSON"))
}

/// TLS as rumqttc makes it from PEM files.
pub fn transport(wanted: &Value) -> Transport {
    let read =
        |name: &str| wanted[name].as_str().map(|path| std::fs::read(path).expect("a readable PEM file"));
    Transport::tls_with_config(TlsConfiguration::Simple {
        ca: read("ca").expect("a CA file"),
        alpn: None,
        client_auth: read("cert").zip(read("key")),
    })
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

pub fn level(value: &Value) -> u8 {
    value.as_u64().and_then(|level| u8::try_from(level).ok()).expect("a QoS")
}
