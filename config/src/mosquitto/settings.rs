//! The options that set something of ours.

use super::Verdict;
use super::importer::{Door, Importer, Outcome, flag};
use super::options::Sets;
use crate::raw::{At, Node, Table, Value};
use std::net::IpAddr;

/// Mosquitto 2.1's own limit of a packet, in bytes.
const PACKET_BYTES_DEFAULT: i64 = 2_000_000;
/// The least that `packet-bytes-max` can be.
const PACKET_BYTES_LEAST: i64 = 1024;
/// The most that MQTT can say.
const PACKET_BYTES_MOST: i64 = 268_435_455;
/// What a packet may be longer than its payload, when only the payload was limited.
const PACKET_ROOM_BYTES: i64 = 4096;
/// Our default for the bytes that wait for a session.
const QUEUE_BYTES: i64 = 4 * 1024 * 1024;
/// The most messages that may wait for a session: Mosquitto's "no limit".
const QUEUED_MESSAGES_MOST: i64 = 10_000_000;
/// Our default for the sessions in the broker.
const SESSIONS: i64 = 100_000;
/// The longest session expiry that we can be told, in seconds.
const EXPIRY_SECS_MOST: u64 = 10 * 365 * 86_400;

fn kept(note: &str) -> Outcome {
    Ok((Verdict::Kept, note.to_owned()))
}

fn mapped(note: &str) -> Outcome {
    Ok((Verdict::Mapped, note.to_owned()))
}

fn changed(note: &str) -> Outcome {
    Ok((Verdict::Changed, note.to_owned()))
}

fn unsupported(note: &str) -> Outcome {
    Ok((Verdict::Unsupported, note.to_owned()))
}

/// The first word of the value as a number.
fn number(value: &str) -> Result<i64, String> {
    let word = value.split(' ').next().unwrap_or_default();
    word.parse::<i32>().map(i64::from).map_err(|_| "the value must be an integer".to_owned())
}

/// A number that is not negative.
fn count(value: &str) -> Result<i64, String> {
    number(value).and_then(|n| if n < 0 { Err("the value must not be negative".to_owned()) } else { Ok(n) })
}

/// The value, which must be there.
fn text(value: &str) -> Result<&str, String> {
    if value.is_empty() { Err("the value is missing".to_owned()) } else { Ok(value) }
}

impl Importer<'_> {
    /// Applies an option that sets something of ours.
    pub(super) fn set(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        use Sets as S;
        match what {
            S::Listener => self.listener(value, at),
            S::DefaultPort | S::BindAddress => self.default_listener(what, value, at),
            S::CaFile | S::CertFile | S::KeyFile | S::CrlFile => self.listener_file(what, text(value)?, at),
            S::RequireCertificate | S::IdentityAsUsername | S::SubjectAsUsername | S::UsernameAsClientId => {
                self.listener_flag(what, flag(value)?)
            }
            S::SocketDomain
            | S::TlsVersion
            | S::TlsKeyForm
            | S::Protocol
            | S::ProtocolVersions
            | S::MaxConnections => self.listener_value(what, value, at),
            S::AclFile | S::PerListener => self.policy(what, value, at),
            S::LogDest | S::LogType => self.logging(what, value, at),
            S::Persistence | S::PersistenceLocation => self.persistence(what, value, at),
            _ => self.limit(what, value, at),
        }
    }

    fn persistence(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        if what == Sets::PersistenceLocation {
            self.store_location = Some(text(value)?.to_owned());
            return mapped(
                "[store] directory, with persistence true: a folder signet-store in it, of mode 0700",
            );
        }
        if !flag(value)? {
            self.store_at = None;
            return kept("nothing is written to disk");
        }
        self.store_at = Some(at.clone());
        changed(
            "[store] directory: sessions, queued and retained messages are on disk before they are acknowledged, where Mosquitto saves them now and then; its own file is not read",
        )
    }

    fn listener(&mut self, value: &str, at: &At) -> Outcome {
        let mut words =
            value.split(' ').filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#'));
        let port = words.next().and_then(|word| word.parse::<u16>().ok());
        let Some(port) = port else { return Err("the port must be 1 to 65535".to_owned()) };
        if port == 0 {
            return Err("Unix sockets are not listened on: MQTT is spoken over TLS and TCP only".to_owned());
        }
        let host = words.next().map(host).transpose()?;
        self.in_door = true;
        let everywhere = host.is_none();
        self.doors.push(Door { at: at.clone(), port, host, open: true, ..Door::default() });
        if everywhere {
            return changed("listens on every IPv4 address; for IPv6, add a listener on ::");
        }
        mapped("[[listener]] address")
    }

    fn default_listener(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        if what == Sets::DefaultPort {
            let port = value.parse::<u16>().ok().filter(|port| *port != 0);
            self.default_door.port = port.ok_or("the port must be 1 to 65535")?;
        } else {
            self.default_door.host = Some(host(text(value)?)?);
        }
        self.default_door.open = true;
        self.default_door.at = at.clone();
        mapped("[[listener]] address")
    }

    fn listener_file(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        let path = self.path(value);
        let in_door = self.in_door;
        let door = self.door();
        if !in_door && !door.open {
            door.open = true;
            door.at = at.clone();
        }
        let list = |path| Value::List(vec![Node { at: at.clone(), value: path }]);
        match what {
            Sets::CaFile => {
                door.table.set("client-ca", list(path), at);
                mapped("client-ca; what it adds to the server's own chain must be in the certfile")
            }
            Sets::CrlFile => {
                door.table.set("crl", list(path), at);
                changed(
                    "intermediates are looked up too where their issuer has a list, where Mosquitto looks up the client's own certificate only; without a list of the client's issuer, or with one past its nextUpdate, the client is refused, as there",
                )
            }
            Sets::CertFile => {
                door.table.set("certificate", path, at);
                mapped("certificate; intermediates of the server must be in it")
            }
            _ => {
                door.table.set("private-key", path, at);
                mapped(
                    "private-key: a key that everybody can read, or its group can change, stops the start: give it mode 0600 or 0640",
                )
            }
        }
    }

    fn listener_flag(&mut self, what: Sets, said: bool) -> Outcome {
        let door = self.door();
        match (what, said) {
            (Sets::RequireCertificate, true) => {
                door.require_certificate = true;
                kept("a certificate is required on every listener")
            }
            (Sets::RequireCertificate, false) => Err("clients without a certificate are never admitted: write true".to_owned()),
            (Sets::IdentityAsUsername, true) => {
                door.identity_as_username = true;
                mapped("identity = \"cn\": the common name is the user; exactly one is needed, where Mosquitto takes the first")
            }
            (Sets::IdentityAsUsername, false) => Err("user names in CONNECT are never believed: write true, and the certificate's common name is the user".to_owned()),
            (Sets::SubjectAsUsername, true) => Err("a whole subject cannot be the user: write use_identity_as_username true and name users by their common name in the acl_file".to_owned()),
            (Sets::SubjectAsUsername, false) => kept("the common name is the user"),
            (_, true) => changed("every certificate's name has client ids of its own, so that none can take over another's session; the client id itself stays what the client chose"),
            (_, false) => kept("the client chooses its client id"),
        }
    }

    fn listener_value(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        match what {
            Sets::TlsVersion => {
                let versions: &[&str] = match value {
                    "tlsv1.3" => &["1.3"],
                    "tlsv1.2" | "tlsv1.1" | "tlsv1" => &["1.2", "1.3"],
                    _ => return Err("the value must be tlsv1.3 or tlsv1.2".to_owned()),
                };
                let nodes =
                    versions.iter().map(|v| Node { at: at.clone(), value: Value::Text((*v).to_owned()) });
                let versions = Value::List(nodes.collect());
                self.door().table.set("tls-versions", versions, at);
                match value {
                    "tlsv1.1" | "tlsv1" => {
                        changed("TLS 1.2 is the oldest version spoken: older clients cannot connect")
                    }
                    _ => mapped("tls-versions: as in Mosquitto, the oldest version spoken"),
                }
            }
            Sets::TlsKeyForm if value == "pem" => kept("keys are PEM files"),
            Sets::TlsKeyForm => Err("OpenSSL engines are not used: write pem".to_owned()),
            Sets::Protocol if value == "mqtt" => kept("MQTT is spoken"),
            Sets::Protocol => Err("only mqtt is spoken: remove the listener".to_owned()),
            Sets::ProtocolVersions => {
                let has = |version| value.split([',', ' ', '\t']).any(|word| word == version);
                match (has("3"), has("4") && has("5")) {
                    (false, true) => kept("3.1.1 and 5.0 are spoken"),
                    (true, true) => changed(
                        "3.1.1 and 5.0 are spoken; 3.1 is answered with \"unacceptable protocol version\"",
                    ),
                    _ => unsupported("3.1.1 and 5.0 are both spoken on every listener"),
                }
            }
            Sets::SocketDomain => {
                let ipv6 = match value {
                    "ipv4" => false,
                    "ipv6" => true,
                    _ => return Err("the value must be ipv4 or ipv6".to_owned()),
                };
                self.door().ipv6 = ipv6;
                mapped("[[listener]] address")
            }
            _ => {
                let limit = number(value)?;
                if limit < 0 {
                    return changed(
                        "a bound remains: max-connections is 10000 for each listener unless said otherwise",
                    );
                }
                self.door().table.set("max-connections", Value::Integer(limit), at);
                mapped("max-connections, handshakes included")
            }
        }
    }

    fn policy(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        if what == Sets::PerListener {
            return match flag(value)? {
                true => changed(
                    "there is one policy for all listeners: the start is refused when they name different ones",
                ),
                false => kept("there is one policy for all listeners"),
            };
        }
        let path = self.path(text(value)?);
        if let (Some(entry), Value::Text(new)) = (self.acl.get("file"), &path)
            && !matches!(&entry.node.value, Value::Text(old) if old == new)
        {
            return Err(
                "there is one policy for all listeners, and another acl_file was named before".to_owned()
            );
        }
        self.acl.set("file", path, at);
        self.acl.set("allow-pattern-without-variable", Value::Bool(true), at);
        changed(
            "the same grammar and order; a SUBSCRIBE to what the client may not read is refused, where Mosquitto grants it and delivers nothing (subscribe-check = false goes back to that); %u or %c as a part of a level is an error, since 2.0 substituted it and 2.1 does not",
        )
    }

    fn logging(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        let word = value.split(' ').next().unwrap_or_default();
        if what == Sets::LogDest {
            return match word {
                "stderr" => kept("log records go to standard error"),
                "stdout" => changed("log records go to standard error"),
                "none" => changed("log records go to standard error: log_type none leaves errors only"),
                _ => {
                    unsupported("log records go to standard error; systemd or a container runtime keeps them")
                }
            };
        }
        let order = ["error", "warn", "info", "debug"];
        let rank = match word {
            "none" | "error" => 0,
            "warning" => 1,
            "notice" | "information" => 2,
            "subscribe" | "unsubscribe" | "debug" | "all" => 3,
            "websockets" | "internal" => return unsupported("there are no such records"),
            _ => return Err("the value must be error, warning, notice, information, debug, subscribe, unsubscribe, all or none".to_owned()),
        };
        let so_far = match self.log.get("level").map(|entry| &entry.node.value) {
            Some(Value::Text(level)) => order.iter().position(|word| word == level).unwrap_or(0),
            _ => 0,
        };
        let level = order.get(rank.max(so_far)).copied().unwrap_or("info");
        self.log.set("level", Value::Text(level.to_owned()), at);
        mapped("log level: the most talkative of the named types and everything graver")
    }

    fn limit(&mut self, what: Sets, value: &str, at: &At) -> Outcome {
        match what {
            Sets::MaxInflight => {
                let limit = if count(value)? == 0 { 65_535 } else { count(value)? };
                self.limits.set("inflight-max", Value::Integer(limit), at);
                self.limits.set("receive-max", Value::Integer(limit), at);
                mapped("inflight-max and receive-max")
            }
            Sets::MaxQueuedMessages => {
                let limit = if count(value)? == 0 { QUEUED_MESSAGES_MOST } else { count(value)? };
                self.limits.set("queued-messages-max", Value::Integer(limit), at);
                mapped("queued-messages-max; what does not fit is dropped and counted")
            }
            Sets::MaxQueuedBytes => {
                if count(value)? == 0 {
                    return changed("a bound remains: queued-bytes-max and outbox-bytes-max");
                }
                self.limits.set("queued-bytes-max", Value::Integer(count(value)?), at);
                self.limits.set("outbox-bytes-max", Value::Integer(count(value)?), at);
                changed(
                    "queued-bytes-max and outbox-bytes-max, at least the largest packet; a connected client that falls behind by so much is disconnected",
                )
            }
            Sets::MaxPacketSize | Sets::MessageSizeLimit => self.packet_size(what, count(value)?, at),
            Sets::MaxKeepAlive => {
                self.limits.set("keep-alive-max", Value::Integer(count(value)?), at);
                mapped("keep-alive-max")
            }
            Sets::TopicAliasIn | Sets::TopicAliasOut => {
                let key =
                    if what == Sets::TopicAliasIn { "topic-alias-in-max" } else { "topic-alias-out-max" };
                self.limits.set(key, Value::Integer(count(value)?), at);
                mapped(key)
            }
            Sets::GlobalMaxClients => {
                if number(value)? < 0 {
                    return changed("a bound remains: sessions-max");
                }
                self.limits.set("sessions-max", Value::Integer(number(value)?), at);
                mapped("sessions-max")
            }
            Sets::MaxQos if count(value)? == 2 => kept("QoS 2 is spoken"),
            Sets::MaxQos => unsupported("every QoS is spoken"),
            Sets::RetainAvailable if flag(value)? => kept("messages are retained"),
            Sets::RetainAvailable => {
                self.limits.set("retained-messages-max", Value::Integer(0), at);
                changed("retained-messages-max = 0: a publish with retain is refused")
            }
            Sets::ClientExpiration => self.client_expiration(value, at),
            _ => {
                self.system.set("sys-interval", Value::Integer(count(value)?), at);
                mapped("sys-interval")
            }
        }
    }

    fn packet_size(&mut self, what: Sets, limit: i64, at: &At) -> Outcome {
        let bounded = |bytes: i64| Value::Integer(bytes.clamp(PACKET_BYTES_LEAST, PACKET_BYTES_MOST));
        if what == Sets::MaxPacketSize {
            self.limits.set("packet-bytes-max", bounded(limit), at);
            self.packet_said = true;
            return mapped("packet-bytes-max");
        }
        if limit == 0 {
            return kept("payloads are bounded by the packet's size");
        }
        if !self.packet_said {
            self.limits.set("packet-bytes-max", bounded(limit + PACKET_ROOM_BYTES), at);
        }
        changed(
            "packet-bytes-max, with 4096 bytes more for header, topic and properties; a larger packet ends its connection, where Mosquitto drops it",
        )
    }

    fn client_expiration(&mut self, value: &str, at: &At) -> Outcome {
        let problem = || "the value must be a number with h, d, w, m (months) or y".to_owned();
        let split = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, unit) = value.split_at(split);
        let secs: u64 = match unit {
            "s" => 1,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            "m" => 30 * 86_400,
            "y" => 365 * 86_400,
            _ => return Err(problem()),
        };
        let total = digits.parse::<u32>().map_err(|_| problem())?;
        let total = u64::from(total).saturating_mul(secs);
        if total > EXPIRY_SECS_MOST {
            self.limits.set("session-expiry-max", Value::Text("never".to_owned()), at);
            return changed("session-expiry-max = \"never\": more than ten years");
        }
        let total = i64::try_from(total).map_err(|_| problem())?;
        self.limits.set("session-expiry-max", Value::Integer(total), at);
        mapped("session-expiry-max")
    }

    /// What Mosquitto does when nothing is said, where our default would turn devices away; a sentence each.
    pub(super) fn unsaid(&mut self, at: &At) -> Vec<String> {
        let mut remarks = Vec::new();
        let limits = &mut self.limits;
        let mut unsaid = |limits: &mut Table, key: &str, value: Value, why: &str| {
            if limits.get(key).is_none() {
                limits.set(key, value, at);
                remarks.push(format!("{key}: {why}"));
            }
        };
        unsaid(
            limits,
            "packet-bytes-max",
            Value::Integer(PACKET_BYTES_DEFAULT),
            "2000000 bytes, the default of Mosquitto 2.1",
        );
        unsaid(
            limits,
            "session-expiry-max",
            Value::Text("never".to_owned()),
            "never, as Mosquitto without persistent_client_expiration",
        );
        let sessions = integer(limits, "sessions-max").unwrap_or(SESSIONS);
        unsaid(
            limits,
            "sessions-per-principal-max",
            Value::Integer(sessions),
            "as many as there may be sessions, since Mosquitto lets any number of devices share a certificate",
        );
        for key in ["handshakes-per-address-per-second", "connections-per-address-max"] {
            let why = "no limit, since Mosquitto has none and a fleet may sit behind one translated address";
            unsaid(limits, key, Value::Integer(0), why);
        }
        // A message that may come in must find a place to wait.
        let packet = integer(limits, "packet-bytes-max").unwrap_or(PACKET_BYTES_DEFAULT);
        for key in ["queued-bytes-max", "outbox-bytes-max"] {
            let bytes = integer(limits, key).unwrap_or(QUEUE_BYTES);
            if bytes < packet {
                limits.set(key, Value::Integer(packet), at);
            }
        }
        remarks
    }
}

/// The integer that was set for a key.
fn integer(table: &Table, key: &str) -> Option<i64> {
    match table.get(key).map(|entry| &entry.node.value) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

/// An address to bind to, in the form in which a port can follow.
fn host(word: &str) -> Result<String, String> {
    if word == "localhost" {
        return Ok("127.0.0.1".to_owned());
    }
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(address.to_string()),
        Ok(IpAddr::V6(address)) => Ok(format!("[{address}]")),
        Err(_) => Err("names are not looked up at the start: write the IP address".to_owned()),
    }
}
