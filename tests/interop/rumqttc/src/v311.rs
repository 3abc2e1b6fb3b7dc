//! MQTT 3.1.1.

use crate::agent::{emit, level, operations, text, transport};
use rumqttc::{Client, Connection, Event, LastWill, MqttOptions, Outgoing, Packet, SubscribeReasonCode, qos};
use serde_json::{Value, json};
use std::time::Duration;

pub fn run(wanted: &Value) {
    let port = wanted["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let mut options = MqttOptions::new(text(&wanted["client_id"]), text(&wanted["host"]), port);
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_clean_session(true)
        .set_max_packet_size(1 << 20, 1 << 20);
    options.set_transport(transport(wanted));
    if let Some(will) = wanted["will"].as_object() {
        let retain = will["retain"] == json!(true);
        let at = qos(level(&will["qos"])).expect("a QoS");
        options.set_last_will(LastWill::new(text(&will["topic"]), text(&will["payload"]), at, retain));
    }
    let (client, connection) = Client::new(options, 16);
    let network = std::thread::spawn(move || report(connection));
    for operation in operations() {
        perform(&client, &operation);
    }
    drop(client);
    network.join().expect("the network thread ends");
}

fn perform(client: &Client, operation: &Value) {
    let at = || qos(level(&operation["qos"])).expect("a QoS");
    let done = match text(&operation["op"]) {
        "subscribe" => client.subscribe(text(&operation["filter"]), at()),
        "publish" => {
            let retain = operation["retain"] == json!(true);
            client.publish(text(&operation["topic"]), at(), retain, text(&operation["payload"]))
        }
        _ => client.disconnect(),
    };
    if let Err(error) = done {
        emit(json!({"event": "closed", "why": error.to_string()}));
    }
}

fn report(mut connection: Connection) {
    let mut connected = false;
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                connected = true;
                emit(json!({"event": "connected", "session_present": answer.session_present}));
            }
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                let code = match answer.return_codes.first() {
                    Some(SubscribeReasonCode::Success(granted)) => *granted as u8,
                    _ => 0x80,
                };
                emit(json!({"event": "subscribed", "code": code}));
            }
            Ok(
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
                | Event::Outgoing(Outgoing::Publish(0)),
            ) => {
                emit(json!({"event": "published", "code": 0}));
            }
            Ok(Event::Incoming(Packet::Publish(message))) => emit(json!({
                "event": "message",
                "topic": message.topic,
                "payload": String::from_utf8_lossy(&message.payload),
                "qos": message.qos as u8,
                "retain": message.retain,
            })),
            Ok(_) => {}
            Err(error) => {
                let event = if connected { "closed" } else { "refused" };
                emit(json!({"event": event, "why": error.to_string()}));
                return;
            }
        }
    }
}
