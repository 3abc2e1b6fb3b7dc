//! rumqttc as an agent of the interoperability tests; `../clients/PROTOCOL.md` says how it is driven.

mod agent;
mod v311;
mod v5;

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("no provider was installed before");
    let wanted = agent::wanted();
    match wanted["version"].as_u64() {
        Some(5) => v5::run(&wanted),
        _ => v311::run(&wanted),
    }
}
