//! Many connections, opened together.

use std::net::SocketAddr;

use anyhow::Result;
use mqttbytes::QoS;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::pki::Device;
use crate::progress;

/// Connects under way at once, of a crowd that is let in gently.
const CONCURRENCY: usize = 32;

/// Connects all devices; each subscribes to its own commands. The connections are in the order of the devices.
pub(crate) async fn gather(address: SocketAddr, devices: &[Device], what: &str) -> Result<Vec<Client>> {
    let bar = progress::bar(what, devices.len());
    let (mut held, mut opening) = (Vec::with_capacity(devices.len()), JoinSet::new());
    for (number, device) in devices.iter().cloned().enumerate() {
        if opening.len() >= CONCURRENCY
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
            bar.inc(1);
        }
        opening.spawn(async move { anyhow::Ok((number, enter(address, device).await?)) });
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
        bar.inc(1);
    }
    bar.finish_and_clear();
    held.sort_by_key(|(number, _)| *number);
    Ok(held.into_iter().map(|(_, client)| client).collect())
}

/// Connects one device and subscribes to its commands.
pub(crate) async fn enter(address: SocketAddr, device: Device) -> Result<Client> {
    let mut client = Client::connect(address, &device, &device.name).await?;
    client.subscribe(&format!("devices/{}/commands/#", device.name), QoS::AtLeastOnce).await?;
    Ok(client)
}
