//! A broker as the device sees one: who may connect, and the `$aws` topics. The rules are those of the registry, in short.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::{Value, json};
use signet_certs_dev::{Authority, KeyKind, LeafProfile, Validity};
use signet_device_core::https::Ask;
use signet_device_core::identity::Leaf;
use signet_device_core::{Failure, Refusal};
use time::OffsetDateTime;

/// TLS alerts (RFC 8446, section 6).
pub const CERTIFICATE_REVOKED: u8 = 44;
pub const CERTIFICATE_EXPIRED: u8 = 45;
pub const CERTIFICATE_UNKNOWN: u8 = 46;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Active,
    Revoked,
}

#[derive(Debug, Clone)]
pub struct Certificate {
    pub leaf: Leaf,
    pub status: Status,
    pub thing: Option<String>,
    pub connected: bool,
    pub entered: u64,
    pub retire_at: Option<u64>,
}

/// Who is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Claim,
    Device(String, [u8; 32]),
}

/// What goes wrong at the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moods {
    /// Answers are made and get lost.
    pub answers_lost: bool,
    /// Nobody can connect.
    pub down: bool,
    /// How long after its end a certificate may still connect to renew.
    pub expired_grace_secs: u64,
    /// New certificates do not connect.
    pub refuses_new: bool,
    /// The status of every rejection instead of an answer.
    pub rejects: Option<u16>,
}

type Issued = HashMap<([u8; 65], u64), Vec<u8>>;

#[derive(Clone)]
pub struct Broker {
    ca: Rc<Authority>,
    issued: Rc<RefCell<Issued>>,
    pub claim: Vec<u8>,
    pub claim_works: bool,
    pub certificates: HashMap<[u8; 32], Certificate>,
    pub things: BTreeMap<String, Vec<[u8; 32]>>,
    tokens: HashMap<String, ([u8; 32], Peer)>,
    /// One-time tokens: the secret, the device, and whether it is used.
    pub one_time: BTreeMap<String, (String, bool)>,
    pub validity_secs: u64,
    pub moods: Moods,
}

fn time(secs: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(secs as i64).expect("a time")
}

impl Broker {
    pub fn new(now: u64) -> Self {
        let validity = Validity::days_from(time(now), 3650);
        let ca = Authority::root("Test CA", KeyKind::P256, validity).expect("a root");
        let profile = LeafProfile::device("claim-1", validity);
        let claim = ca.issue(&profile).expect("a claim").certificate().to_vec();
        Self {
            ca: Rc::new(ca),
            issued: Rc::default(),
            claim,
            claim_works: true,
            certificates: HashMap::new(),
            things: BTreeMap::new(),
            tokens: HashMap::new(),
            one_time: BTreeMap::new(),
            validity_secs: 90 * 86_400,
            moods: Moods::default(),
        }
    }

    /// A certificate for `key`. The same key at about the same time gets the same bytes: signing is not what is tested.
    pub fn sign(&self, key: &[u8; 65], now: u64) -> Leaf {
        let from = now / 7_200 * 7_200;
        let der = self
            .issued
            .borrow_mut()
            .entry((*key, from))
            .or_insert_with(|| {
                let validity =
                    Validity { not_before: time(from - 3_600), not_after: time(from + self.validity_secs) };
                let spki = [
                    &[
                        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                        0x08,
                    ][..],
                    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00][..],
                    key,
                ]
                .concat();
                let profile = LeafProfile::device("device", validity);
                self.ca.issue_for_public_key(&profile, &spki).expect("issued").certificate().to_vec()
            })
            .clone();
        Leaf::read(&der).expect("a leaf")
    }

    pub fn connect(&mut self, certificate: &[u8], now: u64) -> Result<Peer, Failure> {
        let alert = |number| Failure::Refused(Refusal::Alert(number));
        if self.moods.down {
            return Err(Failure::Unreachable);
        }
        if certificate == self.claim {
            return if self.claim_works { Ok(Peer::Claim) } else { Err(alert(CERTIFICATE_REVOKED)) };
        }
        let id = Leaf::read(certificate).expect("a leaf").id().0;
        let grace = self.moods.expired_grace_secs;
        let Some(known) = self.certificates.get_mut(&id) else { return Err(alert(CERTIFICATE_UNKNOWN)) };
        if known.retire_at.is_some_and(|at| at <= now) {
            known.status = Status::Revoked;
        }
        if now > known.leaf.not_after + grace {
            return Err(alert(CERTIFICATE_EXPIRED));
        }
        match known.status {
            Status::Revoked => return Err(alert(CERTIFICATE_REVOKED)),
            Status::Pending => return Err(Failure::Refused(Refusal::ConnAck(0x87))),
            Status::Active => {}
        }
        let thing = known.thing.clone().expect("an active certificate has a thing");
        if self.moods.refuses_new && !known.connected {
            return Err(alert(CERTIFICATE_UNKNOWN));
        }
        if !known.connected {
            known.connected = true;
            for other in &self.things[&thing] {
                let other = self.certificates.get_mut(other).expect("known");
                if other.leaf.id().0 != id && other.status == Status::Active {
                    other.retire_at.get_or_insert(now + 86_400);
                }
            }
        }
        Ok(Peer::Device(thing, id))
    }

    /// The answer to a publish, if there is one: its topic and payload.
    pub fn publish(
        &mut self,
        peer: &Peer,
        topic: &str,
        payload: &[u8],
        now: u64,
    ) -> Option<(String, Vec<u8>)> {
        let answer = if topic == "$aws/certificates/create-from-csr/json" {
            self.create(peer, payload, now)
        } else if topic.starts_with("$aws/provisioning-templates/") {
            self.provision(peer, topic, payload, now)
        } else {
            return None;
        };
        let answer = self.moods.rejects.map_or(answer, |status| Err((status, "Throttling")));
        if self.moods.answers_lost {
            return None;
        }
        let (verdict, body) = match answer {
            Ok(body) => ("accepted", body),
            Err((status, code)) => {
                ("rejected", json!({"statusCode": status, "errorCode": code, "errorMessage": "no"}))
            }
        };
        Some((format!("{topic}/{verdict}"), body.to_string().into_bytes()))
    }

    fn create(&mut self, peer: &Peer, payload: &[u8], now: u64) -> Result<Value, (u16, &'static str)> {
        let request: Value = serde_json::from_slice(payload).expect("JSON");
        let pem = request["certificateSigningRequest"].as_str().expect("a request");
        let key = super::world::key_of_request(pem);
        let leaf = self.sign(&key, now);
        let id = leaf.id();
        // A second signature for the same key within two hours is the same certificate here; it starts over.
        self.certificates.entry(id.0).or_insert_with(|| Certificate {
            leaf: leaf.clone(),
            status: Status::Pending,
            thing: None,
            connected: false,
            entered: now,
            retire_at: None,
        });
        let token = format!("token-{}", self.tokens.len());
        self.tokens.insert(token.clone(), (id.0, peer.clone()));
        Ok(json!({
            "certificateId": id.to_string(),
            "certificatePem": super::world::pem("CERTIFICATE", &leaf.der),
            "certificateOwnershipToken": token,
        }))
    }

    fn provision(
        &mut self,
        peer: &Peer,
        topic: &str,
        payload: &[u8],
        now: u64,
    ) -> Result<Value, (u16, &'static str)> {
        let request: Value = serde_json::from_slice(payload).expect("JSON");
        let token = request["certificateOwnershipToken"].as_str().expect("a token");
        let Some((id, _)) = self.tokens.remove(token).filter(|(_, by)| by == peer) else {
            return Err((400, "InvalidCertificateOwnershipToken"));
        };
        let thing = match peer {
            Peer::Claim => {
                assert!(topic.contains("/fleet/"), "{topic}");
                let serial = request["parameters"]["SerialNumber"].as_str().expect("a serial number");
                format!("thing-{serial}")
            }
            Peer::Device(own, _) => {
                assert!(topic.contains("/rotation/"), "{topic}");
                own.clone()
            }
        };
        let held = self.things.entry(thing.clone()).or_default();
        let key = self.certificates[&id].leaf.public_key;
        if *peer == Peer::Claim {
            let mut in_force =
                held.iter().map(|id| &self.certificates[id]).filter(|c| c.status == Status::Active);
            let same_key = held.iter().any(|id| self.certificates[id].leaf.public_key == key);
            let lost = in_force.clone().count() > 0 && in_force.all(|c| !c.connected && c.entered + 3 <= now);
            if !held.is_empty() && !same_key && !lost {
                return Err((409, "ResourceConflict"));
            }
        }
        // What never connected and is not the one that asks gives its place up.
        for other in held.iter().filter(|other| **other != id) {
            let other = self.certificates.get_mut(other).expect("known");
            let asks = matches!(peer, Peer::Device(_, asker) if *asker == other.leaf.id().0);
            if !asks {
                other.status = Status::Revoked;
            }
        }
        if !held.contains(&id) {
            held.push(id);
        }
        let certificate = self.certificates.get_mut(&id).expect("known");
        certificate.status = Status::Active;
        certificate.thing = Some(thing.clone());
        certificate.entered = now;
        Ok(json!({"deviceConfiguration": {}, "thingName": thing}))
    }

    /// `POST /provision`: status and body; `None` when nobody answers.
    pub fn ask(&mut self, ask: &Ask, now: u64) -> Option<(u16, Vec<u8>)> {
        if self.moods.down {
            return None;
        }
        assert_eq!((ask.host.as_str(), ask.port), ("broker.example", 8443));
        let text = core::str::from_utf8(&ask.request).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a request");
        assert!(head.starts_with("POST /provision HTTP/1.1\r\n"), "{head}");
        let asked: Value = serde_json::from_str(body).expect("JSON");
        let answer = match self.moods.rejects {
            Some(status) => Err((status, "denied")),
            None => self.redeem(asked["token"].as_str()?, asked["csr"].as_str()?, now),
        };
        if self.moods.answers_lost {
            return None;
        }
        Some(match answer {
            Ok(body) => (200, body.to_string().into_bytes()),
            Err((status, code)) => (status, json!({"error": code, "message": "no"}).to_string().into_bytes()),
        })
    }

    fn redeem(&mut self, token: &str, csr: &str, now: u64) -> Result<Value, (u16, &'static str)> {
        let (device, used) = self.one_time.get_mut(token).ok_or((403, "token"))?;
        if std::mem::replace(used, true) {
            return Err((403, "token"));
        }
        let device = device.clone();
        let leaf = self.sign(&super::world::key_of_request(csr), now);
        let id = leaf.id().0;
        let certificate = super::world::pem("CERTIFICATE", &leaf.der);
        let entry = Certificate {
            leaf,
            status: Status::Active,
            thing: Some(device.clone()),
            connected: false,
            entered: now,
            retire_at: None,
        };
        self.certificates.insert(id, entry);
        self.things.entry(device.clone()).or_default().push(id);
        Ok(json!({"device_id": device, "certificate": certificate, "ca_chain": ""}))
    }

    /// Revokes everything of the thing.
    pub fn revoke(&mut self, thing: &str) {
        for id in &self.things[thing] {
            self.certificates.get_mut(id).expect("known").status = Status::Revoked;
        }
    }
}
