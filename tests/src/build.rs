//! Packets as a client would write them, byte by byte.
//!
//! Nothing here goes through `signet-wire`: a fault that the broker's encoder and decoder share would be invisible
//! to a test built from the same code. Well-formed 3.1.1 packets come from `mqttbytes` (v4), 5.0 packets and every
//! malformed one are laid out by hand. The builders do not check what they are asked to write, since half of the
//! tests ask for something that the specification forbids.

use bytes::BytesMut;
use mqttbytes::{QoS, v4};
pub use signet_wire::Version;
pub use signet_wire::Version::{V5, V311};

/// Both versions that the broker speaks, for a test whose rule is the same in both.
pub const BOTH: [Version; 2] = [V311, V5];

/// A packet: the first byte of the fixed header, the remaining length of `body`, `body`.
#[must_use]
pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    out.extend(variable_byte_integer(body.len() as u32));
    out.extend_from_slice(body);
    out
}

/// The shortest variable byte integer for `value` (at most 268 435 455).
#[must_use]
pub fn variable_byte_integer(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A two-byte length and the bytes: the form of strings and binary data.
#[must_use]
pub fn prefixed(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Parts, one after the other.
#[must_use]
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Property identifiers of MQTT 5.0 (table 2-4).
pub mod id {
    #![expect(missing_docs, reason = "the names are those of the specification")]
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFO: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFO: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2A;
}

/// Properties of a 5.0 packet, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Props(Vec<u8>);

impl Props {
    /// No property.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a property whose value is laid out already.
    #[must_use]
    pub fn raw(mut self, id: u8, value: &[u8]) -> Self {
        self.0.push(id);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a one-byte property.
    #[must_use]
    pub fn u8(self, id: u8, value: u8) -> Self {
        self.raw(id, &[value])
    }

    /// Adds a two-byte property.
    #[must_use]
    pub fn u16(self, id: u8, value: u16) -> Self {
        self.raw(id, &value.to_be_bytes())
    }

    /// Adds a four-byte property.
    #[must_use]
    pub fn u32(self, id: u8, value: u32) -> Self {
        self.raw(id, &value.to_be_bytes())
    }

    /// Adds a variable byte integer property.
    #[must_use]
    pub fn varint(self, id: u8, value: u32) -> Self {
        self.raw(id, &variable_byte_integer(value))
    }

    /// Adds a string or binary property.
    #[must_use]
    pub fn text(self, id: u8, value: impl AsRef<[u8]>) -> Self {
        self.raw(id, &prefixed(value))
    }

    /// Adds a user property.
    #[must_use]
    pub fn user(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let pair = join(&[&prefixed(name), &prefixed(value)]);
        self.raw(id::USER_PROPERTY, &pair)
    }

    /// The property length and the properties.
    #[must_use]
    pub fn block(&self) -> Vec<u8> {
        join(&[&variable_byte_integer(self.0.len() as u32), &self.0])
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A property block in 5.0, nothing in 3.1.1.
fn block_for(version: Version, props: &Props) -> Vec<u8> {
    match version {
        V5 => props.block(),
        V311 => {
            assert!(props.is_empty(), "3.1.1 has no properties: the test asks for something impossible");
            Vec::new()
        }
    }
}

/// A will, to be put into a [`Connect`].
#[derive(Clone, Debug)]
pub struct Will {
    topic: Vec<u8>,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    props: Props,
}

/// A will of QoS 0, not retained.
#[must_use]
pub fn will(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Will {
    Will {
        topic: topic.as_ref().to_vec(),
        payload: payload.as_ref().to_vec(),
        qos: 0,
        retain: false,
        props: Props::new(),
    }
}

impl Will {
    /// Sets the QoS bits; 3 is written as asked.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets the Will Retain flag.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Adds a Will Delay Interval in seconds.
    #[must_use]
    pub fn delay(mut self, seconds: u32) -> Self {
        self.props = self.props.u32(id::WILL_DELAY, seconds);
        self
    }

    /// Replaces the will properties.
    #[must_use]
    pub fn props(mut self, props: Props) -> Self {
        self.props = props;
        self
    }
}

/// A CONNECT packet under construction.
#[derive(Clone, Debug)]
pub struct Connect {
    version: Version,
    client_id: Vec<u8>,
    clean: bool,
    keep_alive: u16,
    props: Props,
    will: Option<Will>,
    username: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
}

/// A CONNECT with Clean Session / Clean Start 1, no keep alive, no will.
#[must_use]
pub fn connect(version: Version, client_id: impl AsRef<[u8]>) -> Connect {
    Connect {
        version,
        client_id: client_id.as_ref().to_vec(),
        clean: true,
        keep_alive: 0,
        props: Props::new(),
        will: None,
        username: None,
        password: None,
    }
}

/// How long, in seconds, a session lives that [`Connect::persistent`] asks for in 5.0.
pub const PERSISTENT_SECS: u32 = 100_000;

impl Connect {
    /// Sets Clean Session / Clean Start.
    #[must_use]
    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    /// A session that outlives the connection, resumed when it exists: Clean Session 0, or Clean Start 0 with a
    /// session expiry of [`PERSISTENT_SECS`].
    #[must_use]
    pub fn persistent(self) -> Self {
        match self.version {
            V311 => self.clean(false),
            V5 => self.clean(false).expiry(PERSISTENT_SECS),
        }
    }

    /// Sets the keep alive in seconds.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// Adds a Session Expiry Interval in seconds.
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.props = self.props.u32(id::SESSION_EXPIRY, seconds);
        self
    }

    /// Adds the properties given to `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Props) -> Props) -> Self {
        self.props = change(self.props);
        self
    }

    /// Adds a Receive Maximum.
    #[must_use]
    pub fn receive_maximum(self, value: u16) -> Self {
        self.with(|p| p.u16(id::RECEIVE_MAXIMUM, value))
    }

    /// Adds a Maximum Packet Size in bytes.
    #[must_use]
    pub fn maximum_packet_size(self, bytes: u32) -> Self {
        self.with(|p| p.u32(id::MAXIMUM_PACKET_SIZE, bytes))
    }

    /// Adds a will.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Adds a user name.
    #[must_use]
    pub fn username(mut self, name: impl AsRef<[u8]>) -> Self {
        self.username = Some(name.as_ref().to_vec());
        self
    }

    /// Adds a password.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    /// The Connect Flags that belong to the fields set.
    #[must_use]
    pub fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |w| 0x04 | w.qos << 3 | u8::from(w.retain) << 5);
        u8::from(self.username.is_some()) << 7
            | u8::from(self.password.is_some()) << 6
            | will
            | u8::from(self.clean) << 1
    }

    /// The payload: client identifier, will, user name and password.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = prefixed(&self.client_id);
        if let Some(will) = &self.will {
            out.extend(block_for(self.version, &will.props));
            out.extend(prefixed(&will.topic));
            out.extend(prefixed(&will.payload));
        }
        for field in [&self.username, &self.password].into_iter().flatten() {
            out.extend(prefixed(field));
        }
        out
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let level = if self.version == V5 { 5 } else { 4 };
        self.bytes_as(b"MQTT", level, self.flags(), &self.payload())
    }

    /// The packet with another protocol name, level, flags or payload.
    #[must_use]
    pub fn bytes_as(&self, name: &[u8], level: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let body = join(&[
            &prefixed(name),
            &[level, flags],
            &self.keep_alive.to_be_bytes(),
            &block_for(self.version, &self.props),
            payload,
        ]);
        packet(0x10, &body)
    }
}

/// A PUBLISH packet under construction.
#[derive(Clone, Debug)]
pub struct Publish {
    version: Version,
    topic: Vec<u8>,
    payload: Vec<u8>,
    qos: u8,
    packet_id: u16,
    retain: bool,
    dup: bool,
    props: Props,
}

/// A PUBLISH of QoS 0.
#[must_use]
pub fn publish(version: Version, topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        version,
        topic: topic.as_ref().to_vec(),
        payload: payload.as_ref().to_vec(),
        qos: 0,
        packet_id: 0,
        retain: false,
        dup: false,
        props: Props::new(),
    }
}

impl Publish {
    /// QoS 1 with a packet identifier.
    #[must_use]
    pub fn qos1(self, packet_id: u16) -> Self {
        self.qos(1, packet_id)
    }

    /// QoS 2 with a packet identifier.
    #[must_use]
    pub fn qos2(self, packet_id: u16) -> Self {
        self.qos(2, packet_id)
    }

    /// Sets the QoS bits and, above 0, the packet identifier; nothing is checked.
    #[must_use]
    pub fn qos(mut self, qos: u8, packet_id: u16) -> Self {
        self.qos = qos;
        self.packet_id = packet_id;
        self
    }

    /// Sets the RETAIN flag.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets the DUP flag.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Adds the properties given to `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Props) -> Props) -> Self {
        self.props = change(self.props);
        self
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let by_hand = self.bytes_by_hand();
        if self.version == V311
            && self.qos < 3
            && (self.qos == 0 || self.packet_id != 0)
            && let Ok(topic) = String::from_utf8(self.topic.clone())
        {
            assert_eq!(by_hand, self.bytes_by_mqttbytes(topic), "the two encoders of the tests disagree");
        }
        by_hand
    }

    fn bytes_by_hand(&self) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let packet_id = self.packet_id.to_be_bytes();
        let body = join(&[
            &prefixed(&self.topic),
            if self.qos > 0 { &packet_id } else { &[] },
            &block_for(self.version, &self.props),
            &self.payload,
        ]);
        packet(first, &body)
    }

    fn bytes_by_mqttbytes(&self, topic: String) -> Vec<u8> {
        let qos = mqttbytes::qos(self.qos).unwrap_or(QoS::AtMostOnce);
        let mut publish = v4::Publish::new(topic, qos, self.payload.clone());
        publish.pkid = self.packet_id;
        publish.dup = self.dup;
        publish.retain = self.retain;
        let mut out = BytesMut::new();
        publish.write(&mut out).expect("mqttbytes writes a PUBLISH");
        out.to_vec()
    }
}

/// Subscription options: the QoS, and in 5.0 the flags that [`sub`] can add.
#[derive(Clone, Debug)]
pub struct Sub {
    filter: Vec<u8>,
    options: u8,
}

/// A filter with a requested QoS.
#[must_use]
pub fn sub(filter: impl AsRef<[u8]>, qos: u8) -> Sub {
    Sub { filter: filter.as_ref().to_vec(), options: qos }
}

impl Sub {
    /// Sets No Local.
    #[must_use]
    pub fn no_local(self) -> Self {
        self.bits(0x04)
    }

    /// Sets Retain As Published.
    #[must_use]
    pub fn retain_as_published(self) -> Self {
        self.bits(0x08)
    }

    /// Sets Retain Handling (0 to 3; 3 is forbidden and written as asked).
    #[must_use]
    pub fn retain_handling(self, value: u8) -> Self {
        self.bits(value << 4)
    }

    /// Sets more bits of the options byte.
    #[must_use]
    pub fn bits(mut self, bits: u8) -> Self {
        self.options |= bits;
        self
    }
}

/// A SUBSCRIBE packet without properties.
#[must_use]
pub fn subscribe(version: Version, packet_id: u16, filters: &[Sub]) -> Vec<u8> {
    subscribe_with(version, packet_id, &Props::new(), filters)
}

/// A SUBSCRIBE packet with properties.
#[must_use]
pub fn subscribe_with(version: Version, packet_id: u16, props: &Props, filters: &[Sub]) -> Vec<u8> {
    let mut body = join(&[&packet_id.to_be_bytes(), &block_for(version, props)]);
    for sub in filters {
        body.extend(prefixed(&sub.filter));
        body.push(sub.options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE packet without properties.
#[must_use]
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = join(&[&packet_id.to_be_bytes(), &block_for(version, &Props::new())]);
    for filter in filters {
        body.extend(prefixed(filter));
    }
    packet(0xA2, &body)
}

/// PUBACK with success.
#[must_use]
pub fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &packet_id.to_be_bytes())
}

/// PUBREC with success.
#[must_use]
pub fn pubrec(packet_id: u16) -> Vec<u8> {
    packet(0x50, &packet_id.to_be_bytes())
}

/// PUBREL with success.
#[must_use]
pub fn pubrel(packet_id: u16) -> Vec<u8> {
    packet(0x62, &packet_id.to_be_bytes())
}

/// PUBCOMP with success.
#[must_use]
pub fn pubcomp(packet_id: u16) -> Vec<u8> {
    packet(0x70, &packet_id.to_be_bytes())
}

/// A 5.0 acknowledgement (`first_byte` says which) with a reason code and no property.
#[must_use]
pub fn ack_with_code(first_byte: u8, packet_id: u16, code: u8) -> Vec<u8> {
    packet(first_byte, &join(&[&packet_id.to_be_bytes(), &[code]]))
}

/// PINGREQ.
#[must_use]
pub fn pingreq() -> Vec<u8> {
    packet(0xC0, &[])
}

/// The DISCONNECT that discards the will: two bytes in both versions.
#[must_use]
pub fn disconnect() -> Vec<u8> {
    packet(0xE0, &[])
}

/// A 5.0 DISCONNECT with a reason code and properties.
#[must_use]
pub fn disconnect_with(code: u8, props: &Props) -> Vec<u8> {
    packet(0xE0, &join(&[&[code], &props.block()]))
}

/// A 5.0 AUTH.
#[must_use]
pub fn auth(code: u8, props: &Props) -> Vec<u8> {
    packet(0xF0, &join(&[&[code], &props.block()]))
}
