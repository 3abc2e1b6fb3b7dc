//! Devices that come with a claim certificate, get one of their own over the `$aws` topics, and say their first word with it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use mqttbytes::v4::Packet;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::{Running, Setup};
use crate::cli::{Measure, Need};
use crate::client::Client;
use crate::floor;
use crate::latency::Latencies;
use crate::pki::{Device, Pki};
use crate::progress;
use crate::report::Record;

const TEMPLATE: &str = "bench";
const CREATE: &str = "$aws/certificates/create-from-csr/json";
const PROVISION: &str = "$aws/provisioning-templates/bench/provision/json";
/// The longest that an answer may take; unmodified clients of small devices wait for one second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For the broker's work behind the last device.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// Devices that enrol.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) devices: u32,
    /// How many begin per second; 0: as many as `concurrency` lets.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) per_second: u32,
    /// How many are under way at once, at most.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) concurrency: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { devices: 500, per_second: 50, concurrency: 64 }
    }
}

/// A device before it has a certificate: its serial number, its key, and its signing request.
struct Newcomer {
    serial: String,
    key: PrivateKeyDer<'static>,
    csr: String,
}

/// How long each step took.
struct Enrolled {
    create: Duration,
    register: Duration,
    total: Duration,
}

impl Measure for Load {
    fn need(&self) -> Need {
        Need {
            setup: Setup { connections: 2 * self.concurrency as usize, registry: true, ..Setup::default() },
            ..Need::default()
        }
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        let claim = claim(broker, pki, self.devices).await?;
        let newcomers = (0..self.devices).map(newcomer).collect::<Result<Vec<_>>>()?;
        let floor = floor::measure()?;
        let (cpu, start) = (broker.cpu_time()?, Instant::now());
        let bar = progress::bar("enrolled", newcomers.len());
        let (mut enrolling, mut enrolled) = (JoinSet::new(), Vec::with_capacity(newcomers.len()));
        for (number, newcomer) in (0..).zip(newcomers) {
            if self.per_second > 0 {
                let due = Duration::from_secs(1) * number / self.per_second;
                tokio::time::sleep_until((start + due).into()).await;
            }
            while enrolling.len() >= self.concurrency as usize
                && let Some(done) = enrolling.join_next().await
            {
                enrolled.push(done??);
                bar.inc(1);
            }
            enrolling.spawn(enrol(broker.address, claim.clone(), newcomer, pki.clone()));
        }
        while let Some(done) = enrolling.join_next().await {
            enrolled.push(done??);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let elapsed = start.elapsed();
        tokio::time::sleep(SETTLE).await;
        let cpu = (broker.cpu_time()? - cpu).as_secs_f64() * 1e6 / f64::from(self.devices);
        let of = |step: fn(&Enrolled) -> Duration| enrolled.iter().map(step).collect::<Latencies>();
        let (create, register) = (of(|one| one.create), of(|one| one.register));
        let total = of(|one| one.total);
        let results = BTreeMap::from([
            ("devices_per_second", f64::from(self.devices) / elapsed.as_secs_f64()),
            ("cpu_per_device_us", cpu),
            ("floor_per_device_us", floor.enrolment_us()),
            ("cpu_to_floor_ratio", cpu / floor.enrolment_us()),
            ("create_p50_ms", create.ms(50.0)),
            ("create_p99_ms", create.ms(99.0)),
            ("register_p50_ms", register.ms(50.0)),
            ("register_p99_ms", register.ms(99.0)),
            ("total_p50_ms", total.ms(50.0)),
            ("total_p99_ms", total.ms(99.0)),
        ]);
        Ok(Record::on(broker, pki, "enrol", self, results)?
            .with("create", &create)
            .with("register", &register)
            .with("total", &total))
    }
}

fn newcomer(number: u32) -> Result<Newcomer> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok(Newcomer { serial: format!("thing-{number:05}"), key, csr })
}

/// A template that names the thing by its serial number, and a claim for it.
async fn claim(broker: &Running, pki: &Pki, devices: u32) -> Result<Device> {
    let body = json!({
        "Parameters": { "SerialNumber": { "Type": "String" }, "AWS::IoT::Certificate::Id": { "Type": "String" } },
        "Resources": {
            "thing": {
                "Type": "AWS::IoT::Thing",
                "Properties": { "ThingName": { "Ref": "SerialNumber" } },
            },
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": { "CertificateId": { "Ref": "AWS::IoT::Certificate::Id" }, "Status": "Active" },
            },
        },
    });
    fs::write(broker.directory().join("template.json"), body.to_string())?;
    broker.operate(&["template", "add", TEMPLATE, "template.json", "--kind", "fleet"]).await?;
    let most = devices.to_string();
    let create = ["claim", "create", "bench-claim", "--template", TEMPLATE, "--max", &most, "--out", "claim"];
    broker.operate(&create).await?;
    let folder = broker.directory().join("claim");
    let (chain, key) = chain_and_key(&folder)?;
    pki.issued("bench-claim".to_owned(), &chain, key)
}

/// The longest chain and the key in a folder, or in the one folder in it.
fn chain_and_key(folder: &Path) -> Result<(String, PrivateKeyDer<'static>)> {
    let (mut chain, mut key) = (String::new(), None);
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            return chain_and_key(&path);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("key") => key = Some(PrivateKeyDer::from_pem_file(&path)?),
            Some("crt") => {
                let text = fs::read_to_string(&path)?;
                if text.len() > chain.len() {
                    chain = text;
                }
            }
            _ => {}
        }
    }
    ensure!(!chain.is_empty(), "no certificate in {}", folder.display());
    Ok((chain, key.with_context(|| format!("no key in {}", folder.display()))?))
}

async fn enrol(address: SocketAddr, claim: Device, newcomer: Newcomer, pki: Pki) -> Result<Enrolled> {
    let start = Instant::now();
    let mut client = Client::connect(address, &claim, &newcomer.serial).await?;
    let topics: Vec<String> = [CREATE, PROVISION]
        .iter()
        .flat_map(|topic| [format!("{topic}/accepted"), format!("{topic}/rejected")])
        .collect();
    for topic in &topics {
        client.subscribe(topic, mqttbytes::QoS::AtLeastOnce).await?;
    }
    let request = json!({ "certificateSigningRequest": newcomer.csr });
    let (created, create) = ask(&mut client, CREATE, &request).await?;
    let text = |value: &Value, name: &str| -> Result<String> {
        Ok(value.get(name).and_then(Value::as_str).with_context(|| format!("no {name}"))?.to_owned())
    };
    let certificate = text(&created, "certificatePem")?;
    let request = json!({
        "certificateOwnershipToken": text(&created, "certificateOwnershipToken")?,
        "parameters": { "SerialNumber": newcomer.serial },
    });
    let (registered, register) = ask(&mut client, PROVISION, &request).await?;
    let thing = text(&registered, "thingName")?;
    client.disconnect().await?;
    let device = pki.issued(thing.clone(), &certificate, newcomer.key)?;
    let mut client = Client::connect(address, &device, &newcomer.serial).await?;
    client.publish(&format!("devices/{thing}/telemetry/t"), b"first", false).await?;
    let total = start.elapsed();
    client.disconnect().await?;
    Ok(Enrolled { create, register, total })
}

/// Publishes a request and waits for its answer; the PUBACK may come before or after it.
async fn ask(client: &mut Client, topic: &str, request: &Value) -> Result<(Value, Duration)> {
    let asked = Instant::now();
    client.send(topic, request.to_string().as_bytes()).await?;
    let (mut answer, mut acknowledged) = (None, false);
    while answer.is_none() || !acknowledged {
        let packet = timeout(ANSWER_TIMEOUT, client.read()).await;
        match packet.with_context(|| format!("no answer on {topic} in {ANSWER_TIMEOUT:?}"))?? {
            Packet::PubAck(_) => acknowledged = true,
            Packet::Publish(publish) => {
                let took = asked.elapsed();
                client.acknowledge(&publish).await?;
                let said: Value = serde_json::from_slice(&publish.payload)?;
                ensure!(publish.topic.ends_with("/accepted"), "{}: {said}", publish.topic);
                answer = Some((said, took));
            }
            other => bail!("unexpected at a device that enrols: {other:?}"),
        }
    }
    answer.context("no answer")
}
