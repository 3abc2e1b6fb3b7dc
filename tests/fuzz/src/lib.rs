//! What must hold for any bytes, whoever sends them.

pub mod connection;
pub mod documents;

use bytes::{Bytes, BytesMut};
use signet_core::provisioning::{Format, Operation, PAYLOAD_BYTES_MAX, Payload, RequestTopic, read_payload};
use signet_wire::{
    EncodeError, Frame, Packet, PacketType, Version, decode_connect, decode_from_client, decode_from_server,
    encode, encoded_len, frame,
};

/// The packet size limit of the targets, in bytes; small enough that inputs reach it.
const PACKET_BYTES_MAX: u32 = 2048;

/// Takes `data` for a stream of one connection: splits it into frames and decodes each as either side would.
///
/// # Panics
/// When something does not hold that must hold.
pub fn stream(data: &[u8], version: Version) {
    let frames = frames_at_once(data);
    assert_eq!(frames, frames_in_pieces(data), "the frames depend on how the bytes arrive");
    for frame in frames {
        packet(frame, version);
    }
}

/// Frames are exactly the bytes of the stream, in order, each within the limit.
fn frames_at_once(data: &[u8]) -> Vec<Frame> {
    let mut buf = BytesMut::from(data);
    let mut frames = Vec::new();
    let mut at = 0;
    while let Ok(Some(frame)) = frame(&mut buf, PACKET_BYTES_MAX) {
        let end = at + frame.wire_len();
        assert!(frame.wire_len() <= PACKET_BYTES_MAX as usize);
        assert_eq!(data[at], frame.first_byte());
        assert_eq!(&data[end - frame.body().len()..end], frame.body());
        at = end;
        frames.push(frame);
    }
    assert_eq!(buf, &data[at..], "the rest is untouched");
    frames
}

/// The same bytes in pieces of one to seven.
fn frames_in_pieces(data: &[u8]) -> Vec<Frame> {
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    for piece in data.chunks(1 + data.len() % 7) {
        buf.extend_from_slice(piece);
        loop {
            match frame(&mut buf, PACKET_BYTES_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

fn packet(frame: Frame, version: Version) {
    let packet_type = frame.packet_type();
    if packet_type == Some(PacketType::Connect) {
        if let Ok(connect) = decode_connect(frame.clone()) {
            let version = connect.version;
            let packet = Packet::Connect(Box::new(connect));
            round_trip(&packet, version, |frame| {
                decode_connect(frame).map(|connect| Packet::Connect(Box::new(connect))).ok()
            });
        }
        assert!(decode_from_client(frame.clone(), version).is_err(), "a second CONNECT");
    }
    let from_client = decode_from_client(frame.clone(), version);
    if let Ok(packet) = &from_client {
        assert_eq!(Some(packet.packet_type()), packet_type);
        round_trip(packet, version, |frame| decode_from_client(frame, version).ok());
    }
    if let Ok(packet) = decode_from_server(frame, version) {
        assert_eq!(Some(packet.packet_type()), packet_type);
        round_trip(&packet, version, |frame| decode_from_server(frame, version).ok());
    }
}

/// What was accepted can be written, has the length that was foretold, and is read as the same packet.
fn round_trip(packet: &Packet, version: Version, decode: impl Fn(Frame) -> Option<Packet>) {
    let mut out = BytesMut::new();
    match encode(packet, version, &mut out) {
        Ok(()) => {}
        Err(error) => {
            assert!(has_filter_that_is_none(packet), "{error}: {packet:?}");
            assert_eq!(error, EncodeError::Contradiction("a filter that is none"));
            assert!(out.is_empty());
            return;
        }
    }
    assert_eq!(out.len(), encoded_len(packet, version));
    let frame = frame(&mut out, u32::MAX).expect("our own frame").expect("our own frame is whole");
    assert!(out.is_empty());
    assert_eq!(decode(frame).as_ref(), Some(packet));
}

/// The text of an impossible filter is not kept.
fn has_filter_that_is_none(packet: &Packet) -> bool {
    match packet {
        Packet::Subscribe(subscribe) => subscribe.filters.iter().any(|requested| requested.filter.is_err()),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().any(Result::is_err),
        _ => false,
    }
}

/// Takes `data` for a filter and, behind the first line break, a topic.
///
/// # Panics
/// When something does not hold that must hold.
pub fn filter_and_topic(data: &[u8]) {
    use signet_wire::{SubscriptionFilter, Text, TopicFilter, TopicName};

    let mut parts = data.splitn(2, |&byte| byte == b'\n');
    let mut part = || Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let (filter, topic) = (part(), part());
    if let Ok(text) = Text::try_from(filter)
        && let Ok(filter) = SubscriptionFilter::parse(text.clone())
    {
        assert_eq!(filter.to_string(), text.as_str());
        assert_eq!(filter.group().is_some(), text.starts_with("$share/"));
        let plain = filter.filter();
        assert!(plain.has_wildcard() || TopicName::try_from(plain.as_text().clone()).is_ok());
        if let Ok(topic) = TopicName::try_from(topic) {
            assert_eq!(plain.matches(&topic), matches_by_the_book(plain, &topic), "{plain} {topic}");
        }
        // A filter is matched by the topic that it spells, unless a wildcard meets the dollar.
        if !plain.has_wildcard() {
            let same = TopicName::try_from(plain.as_text().clone()).expect("no wildcard");
            assert!(TopicFilter::try_from(plain.as_text().clone()).expect("a filter").matches(&same));
        }
    }
}

/// MQTT5 §4.7 by recursion over the levels.
fn matches_by_the_book(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && levels(filter, topic),
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+'));
    let split = |name: &str| -> Vec<String> { name.split('/').map(str::to_owned).collect() };
    let (filter, topic) = (split(filter), split(topic));
    let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
    let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
    !hidden && levels(&filter, &topic)
}

/// Takes `data` for a template of the kind of its first byte and, behind the first NUL byte, the parameters of a device: lines of
/// `NAME=VALUE`.
///
/// # Panics
/// When something does not hold that must hold.
pub fn template_and_parameters(data: &[u8]) {
    use signet_identity::{CertificateId, ThingName};
    use signet_registry::TemplateKind;
    use signet_registry::template::{
        CertificateParameters, DEVICE_CONFIGURATION_BYTES_MAX, TEMPLATE_PROBLEMS_MAX, TemplateBody,
    };

    let Some((kind, data)) = data.split_first() else { return };
    let kind = match kind % 3 {
        0 => TemplateKind::Fleet,
        1 => TemplateKind::Jitp,
        _ => TemplateKind::Rotation,
    };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, sent) = text.split_once('\0').unwrap_or((text, ""));
    let template = match TemplateBody::parse(kind, text) {
        Ok(template) => template,
        Err(problems) => {
            assert!((1..=TEMPLATE_PROBLEMS_MAX).contains(&problems.len()));
            let lines = text.matches('\n').count() + 1;
            assert!(
                problems.iter().all(|p| (1..=lines).contains(&p.line) && p.column > 0 && !p.what.is_empty())
            );
            return;
        }
    };
    let parameters = sent.lines().filter_map(|line| line.split_once('='));
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let id = CertificateId::of(data);
    let own = ThingName::try_from("own").expect("a name");
    for certificate in [CertificateParameters::issued(id), CertificateParameters::renewed(id, own.clone())] {
        let Ok(given) = template.evaluate(&parameters, &certificate) else { continue };
        assert!(ThingName::try_from(given.thing.name.as_str()).is_ok());
        assert!(kind != TemplateKind::Rotation || given.thing.name == own);
        let configuration = given.device_configuration.iter();
        let bytes: usize = configuration.map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= DEVICE_CONFIGURATION_BYTES_MAX);
        assert!(given.policies.iter().all(|policy| given.thing.groups.as_slice().contains(policy)));
    }
}

/// Takes `data` for the payload of a provisioning request.
///
/// # Panics
/// When something does not hold that must hold.
pub fn provisioning(data: &[u8], format: Format) {
    let Some(register) = RequestTopic::parse("$aws/provisioning-templates/t/provision/json") else {
        panic!("a request topic is one")
    };
    for operation in [Operation::CreateFromCsr, Operation::CreateKeys, register.operation] {
        let read = read_payload(&operation, format, data);
        match (&operation, &read) {
            (_, Err(rejection)) => assert_eq!(rejection.code.status(), 400),
            (_, Ok(_)) if data.len() > PAYLOAD_BYTES_MAX => panic!("a payload that is too large was read"),
            (Operation::CreateFromCsr, Ok(Payload::Csr(csr))) => assert!(csr.len() <= data.len()),
            (Operation::CreateKeys, Ok(Payload::Keys)) => {}
            (Operation::RegisterThing(_), Ok(Payload::Thing { token, parameters })) => {
                assert!(!token.expose().is_empty() && token.expose().len() <= 256);
                let bytes: usize = parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
                assert!(bytes <= data.len());
            }
            (_, Ok(other)) => panic!("{other:?} is the payload of another operation"),
        }
        // What comes once comes again.
        assert_eq!(read, read_payload(&operation, format, data));
    }
}
