//! Fleet provisioning with rustot, a client for microcontrollers, unchanged: its own requests and answers, its own packets of
//! MQTT 3.1.1, its own CBOR and JSON. What a microcontroller has is made here: TLS 1.2 over a socket, one buffer for a whole
//! packet, and no more than a second for each step.
//!
//! The one argument is a JSON object; what came of it is a JSON object on standard output.

mod wire;

use heapless::LinearMap;
use mqttrust::Mqtt;
use mqttrust::encoding::v4::QoS;
use rustot::provisioning::{FleetProvisioner, Response};
use serde_json::{Map, Value, json};
use wire::{Answer, Link};

fn main() {
    let wanted = std::env::args().nth(1).expect("one JSON argument");
    let wanted: Value = serde_json::from_str(&wanted).expect("the argument is JSON");
    let out = match provision(&wanted) {
        Ok(kept) => live(&wanted, kept),
        Err(refused) => json!({ "refused": refused }),
    };
    println!("{out}");
}

fn text<'a>(wanted: &'a Value, name: &str) -> &'a str {
    wanted[name].as_str().unwrap_or_else(|| panic!("{name} is a string"))
}

/// What the device keeps.
struct Kept {
    certificate_id: String,
    certificate: String,
    key: String,
    configuration: Map<String, Value>,
    largest: usize,
}

/// Claims a certificate with the key that the broker makes, which is all that this client asks for by itself.
fn provision(wanted: &Value) -> Result<Kept, String> {
    let cbor = text(wanted, "format") == "cbor";
    let link = Link::connect(wanted, text(wanted, "cert"), text(wanted, "key"));
    let template = text(wanted, "template");
    let mut provisioner = if cbor {
        FleetProvisioner::new_cbor(&link, template)
    } else {
        FleetProvisioner::new(&link, template)
    };
    provisioner.initialize().expect("the four answers are subscribed to in one packet");
    let mut kept = None;
    loop {
        match link.next() {
            Answer::Subscribed => provisioner.begin().expect("it asks for a certificate"),
            Answer::Other => {}
            Answer::Published { topic, mut payload } => {
                match provisioner.handle_message::<4>(&topic, &mut payload) {
                    Ok(Some(Response::Credentials(given))) => {
                        // Its JSON leaves line ends as they are escaped.
                        let lines = |pem: &str| if cbor { pem.to_owned() } else { pem.replace("\\n", "\n") };
                        kept = Some(Kept {
                            certificate_id: given.certificate_id.to_owned(),
                            certificate: lines(given.certificate_pem),
                            key: lines(given.private_key.expect("a private key")),
                            configuration: Map::new(),
                            largest: 0,
                        });
                        let mut parameters = LinearMap::<&str, &str, 2>::new();
                        for (name, value) in wanted["parameters"].as_object().expect("parameters") {
                            parameters.insert(name, value.as_str().expect("a string")).expect("two at most");
                        }
                        provisioner.register_thing::<2>(Some(parameters)).expect("it registers its thing");
                    }
                    // It has compared the thing's name with its client id.
                    Ok(Some(Response::DeviceConfiguration(configuration))) => {
                        let mut kept = kept.expect("the certificate came first");
                        let pairs = configuration.iter();
                        kept.configuration =
                            pairs.map(|(name, value)| (name.to_string(), json!(value))).collect();
                        drop(provisioner);
                        kept.largest = link.disconnect();
                        return Ok(kept);
                    }
                    Ok(None) => {}
                    Err(error) => return Err(format!("{error:?}")),
                }
            }
        }
    }
}

/// Comes back as itself, with the same client id, and publishes.
fn live(wanted: &Value, kept: Kept) -> Value {
    let (certificate, key) = (text(wanted, "device_cert"), text(wanted, "device_key"));
    std::fs::write(certificate, &kept.certificate).expect("a writable file");
    std::fs::write(key, &kept.key).expect("a writable file");
    let link = Link::connect(wanted, certificate, key);
    let topic = format!("devices/{}/telemetry/boot", text(wanted, "client_id"));
    link.publish(&topic, b"1", QoS::AtLeastOnce).expect("it publishes");
    while !matches!(link.next(), Answer::Other) {}
    let denied = link.denied(text(wanted, "forbidden"));
    link.disconnect();
    json!({
        "certificate_id": kept.certificate_id,
        "configuration": kept.configuration,
        "largest_packet": kept.largest,
        "session_present": link.session_present(),
        "denied": denied,
    })
}
