//! The tables of the file, one function each, with what must hold between their keys.

use super::Checker;
use super::doors::Doors;
use super::read::View;
use crate::raw::{At, Node, Table, Value};
use crate::schema::Section;
use crate::{
    Acl, Admin, ClientIdRule, CrlStale, Identity, Limits, Listener, Log, LogFormat, LogLevel, MemoryMax,
    NameShare, PostQuantum, SlowConsumer, System, TlsVersions, X509V1,
};
use signet_acl::ParseOptions;
use signet_identity::{GROUPS_MAX, GroupName, IdentitySource, NameRule, ThingName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::time::Duration;

impl Checker<'_> {
    pub(super) fn listeners(&mut self, root: &Table) -> Vec<Listener> {
        let Some(entry) = root.get(Section::Listener.name()) else {
            self.missing(
                &At::default(),
                "there is no [[listener]]",
                "a broker needs at least one address to listen on",
            );
            return Vec::new();
        };
        let mut listeners: Vec<Listener> = Vec::new();
        let mut doors = Doors::default();
        match &entry.node.value {
            Value::List(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Table(_))) => {
                for node in nodes {
                    let Value::Table(table) = &node.value else { continue };
                    let view = self.view(Section::Listener, &node.at, table);
                    let listener = self.listener(&view);
                    self.refuse_same_door(&mut doors, listener.address, &view);
                    listeners.push(listener);
                }
            }
            Value::Table(_) => {
                self.problem_with_hint(
                    &entry.at,
                    "[listener] must be a list of tables",
                    "write [[listener]], with two brackets",
                );
            }
            other => {
                let message = format!("\"listener\" must be a list of tables, not {}", other.kind());
                self.problem_with_hint(&entry.at, message, "write [[listener]] once for each address");
            }
        }
        if let (Value::List(nodes), true) = (&entry.node.value, listeners.is_empty())
            && nodes.is_empty()
        {
            self.missing(
                &entry.node.at,
                "there is no [[listener]]",
                "a broker needs at least one address to listen on",
            );
        }
        listeners
    }

    /// Two listeners cannot have the same door: the second bind would fail at the start.
    pub(super) fn refuse_same_door(&mut self, doors: &mut Doors, address: SocketAddr, view: &View<'_>) {
        if let Some(other) = doors.add(address) {
            self.problem(&view.place("address"), format!("{address} is taken by the listener on {other}"));
        }
    }

    fn listener(&mut self, view: &View<'_>) -> Listener {
        let client_ca = self.files(view, "client-ca");
        if view.is_empty_list("client-ca") {
            let at = view.place("client-ca");
            self.problem_with_hint(
                &at,
                "\"client-ca\" is empty",
                "without a trust anchor no client certificate can be accepted",
            );
        }
        let (crl_stale, crl_stale_by_issuer) = self.crl_stale(view);
        let require_client_auth_eku = self.flag(view, "require-client-auth-eku");
        let x509_v1 = self.x509_v1(view, require_client_auth_eku);
        let identity = match self.choice(view, "identity") {
            "san-uri" => IdentitySource::SanUri,
            "san-dns" => IdentitySource::SanDns,
            "fingerprint" => IdentitySource::Fingerprint,
            _ => IdentitySource::Cn,
        };
        Listener {
            address: self.listen_address(view),
            certificate: self.file(view, "certificate"),
            private_key: self.file(view, "private-key"),
            client_ca,
            crl: self.files(view, "crl"),
            crl_stale,
            crl_stale_by_issuer,
            tls_versions: self.tls_versions(view),
            identity,
            names: self.name_rule(view, identity),
            client_id: match self.choice(view, "client-id") {
                "identity" => ClientIdRule::Identity,
                "identity-prefix" => ClientIdRule::IdentityPrefix,
                _ => ClientIdRule::Any,
            },
            connections_max: self.some_u32(view, "max-connections"),
            fragment_bytes_max: u16::try_from(self.bytes(view, "max-fragment-size"))
                .ok()
                .and_then(NonZeroU16::new)
                .unwrap_or(NonZeroU16::MIN),
            session_tickets: u8::try_from(self.count(view, "session-tickets")).unwrap_or_default(),
            require_client_auth_eku,
            x509_v1,
            post_quantum: match self.choice(view, "post-quantum") {
                "off" => PostQuantum::Off,
                _ => PostQuantum::Prefer,
            },
            handshake_timeout: self.time(view, "handshake-timeout"),
        }
    }

    fn x509_v1(&mut self, view: &View<'_>, require_client_auth_eku: bool) -> X509V1 {
        if self.choice(view, "x509-v1") != "accept" {
            return X509V1::Refuse;
        }
        if require_client_auth_eku {
            self.warning(
                &view.place("x509-v1"),
                "\"x509-v1\" admits no client while \"require-client-auth-eku\" is true",
                "a certificate of version 1 has no extended key usage: write require-client-auth-eku = false too",
            );
        }
        X509V1::Accept
    }

    fn crl_stale(&mut self, view: &View<'_>) -> (CrlStale, BTreeMap<String, CrlStale>) {
        let grace = self.time(view, "crl-grace");
        let rule = |word: &str| match word {
            "grace" => CrlStale::Grace(grace),
            "warn" => CrlStale::Warn,
            _ => CrlStale::Reject,
        };
        let stale = rule(self.choice(view, "crl-stale"));
        let by_issuer = self.choice_of(view, "crl-stale-by-issuer");
        let by_issuer: BTreeMap<_, _> =
            by_issuer.into_iter().map(|(issuer, word)| (issuer, rule(word))).collect();
        let graced = std::iter::once(&stale).chain(by_issuer.values());
        if view.has("crl-grace") && !graced.into_iter().any(|stale| matches!(stale, CrlStale::Grace(_))) {
            let at = view.place("crl-grace");
            self.problem_with_hint(
                &at,
                "\"crl-grace\" has no effect",
                "write crl-stale = \"grace\", or remove it",
            );
        }
        (stale, by_issuer)
    }

    fn tls_versions(&mut self, view: &View<'_>) -> TlsVersions {
        let versions = self.choices(view, "tls-versions");
        match (versions.contains(&"1.2"), versions.contains(&"1.3")) {
            (true, false) => TlsVersions::V12,
            (false, true) => TlsVersions::V13,
            _ => TlsVersions::V12AndV13,
        }
    }

    pub(super) fn acl(&mut self, root: &Table) -> Acl {
        if root.get(Section::Acl.name()).is_none() {
            self.missing(
                &At::default(),
                "there is no [acl]",
                "without a policy nobody may do anything: write [acl] with file = \"acl.conf\"",
            );
        }
        let view = self.section(root, Section::Acl);
        Acl {
            file: self.file(&view, "file"),
            options: ParseOptions {
                subscribe_check: self.flag(&view, "subscribe-check"),
                allow_pattern_without_variable: self.flag(&view, "allow-pattern-without-variable"),
                allow_mid_level_variable: self.flag(&view, "allow-mid-level-variable"),
            },
        }
    }

    pub(super) fn identity(&mut self, root: &Table, listeners: &[Listener]) -> Identity {
        let view = self.section(root, Section::Identity);
        let operators = match view.table.and_then(|table| table.get("operators")) {
            Some(entry) => self.names(&entry.node, "operators", listeners),
            None => BTreeSet::new(),
        };
        let mut groups = BTreeMap::new();
        if let Some(entry) = view.table.and_then(|table| table.get("groups")) {
            let Value::Table(table) = &entry.node.value else {
                let message = format!("\"groups\" must be a table, not {}", entry.node.value.kind());
                self.problem_with_hint(&entry.node.at, message, "write [identity.groups], and a line such as pumps = [\"pump-1\", \"pump-2\"] for each group");
                return Identity { operators, groups };
            };
            for group in &table.entries {
                let members = self.names(&group.node, &group.name, listeners);
                if let Some(name) = self.group_name(&group.name, &group.at) {
                    groups.insert(name, members);
                }
            }
            self.refuse_crowded(&groups, &entry.node.at);
        }
        Identity { operators, groups }
    }

    fn group_name(&mut self, name: &str, at: &At) -> Option<GroupName> {
        match GroupName::try_from(name) {
            Ok(group) => Some(group),
            Err(error) => {
                self.problem(at, format!("{name:?} cannot name a group: {error}"));
                None
            }
        }
    }

    /// A principal has a bounded number of groups; one name in more of them is a mistake better found here.
    fn refuse_crowded(&mut self, groups: &BTreeMap<GroupName, BTreeSet<ThingName>>, at: &At) {
        let mut counts: BTreeMap<&ThingName, usize> = BTreeMap::new();
        for name in groups.values().flatten() {
            *counts.entry(name).or_default() += 1;
        }
        if let Some((name, count)) = counts.into_iter().find(|(_, count)| *count > GROUPS_MAX) {
            self.problem(at, format!("\"{}\" is in {count} groups, more than {GROUPS_MAX}", name.as_str()));
        }
    }

    /// A list of names, each of which at least one listener accepts, and none twice.
    fn names(&mut self, node: &Node, key: &str, listeners: &[Listener]) -> BTreeSet<ThingName> {
        let mut names = BTreeSet::new();
        let Value::List(nodes) = &node.value else {
            self.problem(&node.at, format!("\"{key}\" must be a list of names, not {}", node.value.kind()));
            return names;
        };
        let own = NameRule::default();
        let mut rules: Vec<&NameRule> = Vec::new();
        for rule in listeners.iter().map(|listener| &listener.names).chain(std::iter::once(&own)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        for node in nodes {
            let Value::Text(text) = &node.value else {
                self.problem(
                    &node.at,
                    format!("a name in \"{key}\" must be a string, not {}", node.value.kind()),
                );
                continue;
            };
            let Some(name) = rules.iter().find_map(|rule| ThingName::new(text, rule).ok()) else {
                let message = format!("{text:?} in \"{key}\" is not a name that a listener accepts");
                self.problem_with_hint(
                    &node.at,
                    message,
                    "write the name exactly as it is in the certificate; wildcards are not names",
                );
                continue;
            };
            if !names.insert(name) {
                self.problem(&node.at, format!("{text:?} is in \"{key}\" twice"));
            }
        }
        names
    }

    pub(super) fn limits(&mut self, root: &Table) -> Limits {
        let view = &self.section(root, Section::Limits);
        let packet = self.bytes(view, "packet-bytes-max");
        let limits = Limits {
            packet_bytes_max: non_zero(packet),
            connect_packet_bytes_max: non_zero(self.bytes(view, "connect-packet-bytes-max")),
            connect_timeout: self.time(view, "connect-timeout"),
            handshake_bytes_max: self.size_of(view, "handshake-bytes-max"),
            handshakes_in_flight_max: self.some_u32(view, "handshakes-in-flight-max"),
            handshakes_per_address_per_second: NonZeroU32::new(
                self.count_u32(view, "handshakes-per-address-per-second"),
            ),
            connections_per_address_max: NonZeroU32::new(self.count_u32(view, "connections-per-address-max")),
            connects_per_principal_per_second: NonZeroU32::new(
                self.count_u32(view, "connects-per-principal-per-second"),
            ),
            publishes_per_principal_per_second: NonZeroU32::new(
                self.count_u32(view, "publishes-per-principal-per-second"),
            ),
            bytes_per_principal_per_second: NonZeroU64::new(
                self.bytes(view, "bytes-per-principal-per-second"),
            ),
            client_id_bytes_max: self.size_of(view, "client-id-bytes-max"),
            keep_alive_secs_max: {
                let secs = self.whole_secs(view, "keep-alive-max").unwrap_or(0);
                NonZeroU16::new(u16::try_from(secs).unwrap_or(u16::MAX))
            },
            session_expiry_secs_max: self.whole_secs(view, "session-expiry-max").unwrap_or(u32::MAX),
            will_delay_secs_max: self.whole_secs(view, "will-delay-max").unwrap_or(0),
            sessions_max: self.number_of(view, "sessions-max"),
            sessions_per_principal_max: self.number_of(view, "sessions-per-principal-max"),
            sessions_per_claim_max: self.number_of(view, "sessions-per-claim-max"),
            subscriptions_per_session_max: self.number_of(view, "subscriptions-per-session-max"),
            subscriptions_per_principal_max: self.number_of(view, "subscriptions-per-principal-max"),
            topic_levels_max: self.number_of(view, "topic-levels-max"),
            receive_max: self.some_u16(view, "receive-max"),
            unreleased_qos2_max: self.number_of(view, "unreleased-qos2-max"),
            inflight_max: self.some_u16(view, "inflight-max"),
            queued_messages_max: self.number_of(view, "queued-messages-max"),
            queued_bytes_max: self.size_of(view, "queued-bytes-max"),
            queued_bytes_per_principal_max: self.name_share(view, "queued-bytes-per-principal-max", packet),
            outbox_bytes_max: self.size_of(view, "outbox-bytes-max"),
            slow_consumer: match self.choice(view, "slow-consumer") {
                "drop-newest" => SlowConsumer::DropNewest,
                _ => SlowConsumer::Close,
            },
            drain_bytes_max: self.size_of(view, "drain-bytes-max"),
            retained_replay_max: self.number_of(view, "retained-replay-max"),
            topic_alias_in_max: self.count_u16(view, "topic-alias-in-max"),
            topic_alias_out_max: self.count_u16(view, "topic-alias-out-max"),
            retained_messages_max: self.number_of(view, "retained-messages-max"),
            retained_bytes_max: self.size_of(view, "retained-bytes-max"),
            retained_messages_per_principal_max: self.number_of(view, "retained-messages-per-principal-max"),
            retained_bytes_per_principal_max: self.name_share(
                view,
                "retained-bytes-per-principal-max",
                packet,
            ),
            memory_max: match view.has("memory-max").then(|| self.bytes(view, "memory-max")) {
                None => MemoryMax::ControlGroup,
                Some(bytes) => NonZeroU64::new(bytes).map_or(MemoryMax::Unbounded, MemoryMax::Bytes),
            },
        };
        self.between_limits(view, &limits);
        limits
    }

    /// What one name may have the broker keep, where the largest message has `packet` bytes.
    fn name_share(&mut self, view: &View<'_>, name: &str, packet: u64) -> NameShare {
        let bytes = self.size_of(view, name);
        if view.has(name) {
            return NameShare::Written(bytes);
        }
        NameShare::Usual { most: bytes, least: usize::try_from(packet).unwrap_or(usize::MAX) }
    }

    /// What must hold between limits: a message that may come in must find a place to wait.
    fn between_limits(&mut self, view: &View<'_>, limits: &Limits) {
        let packet = usize::try_from(limits.packet_bytes_max.get()).unwrap_or(usize::MAX);
        for (name, value) in [
            ("queued-bytes-max", limits.queued_bytes_max),
            ("queued-bytes-per-principal-max", limits.queued_bytes_per_principal_max.bytes(None)),
            ("outbox-bytes-max", limits.outbox_bytes_max),
        ] {
            if value < packet {
                // Either of the two may be the one that was written.
                let blamed = if view.has(name) { name } else { "packet-bytes-max" };
                let message = format!(
                    "\"{name}\" is less than \"packet-bytes-max\" ({packet}): the largest message could never be delivered"
                );
                self.problem(&view.place(blamed), message);
            }
        }
        if let MemoryMax::Bytes(ceiling) = limits.memory_max {
            let share = ceiling.get() / NameShare::OF_CEILING;
            for (name, value) in [
                ("queued-bytes-per-principal-max", limits.queued_bytes_per_principal_max),
                ("retained-bytes-per-principal-max", limits.retained_bytes_per_principal_max),
            ] {
                if matches!(value, NameShare::Written(bytes) if bytes as u64 > share) {
                    self.warning(
                        &view.place(name),
                        format!("\"{name}\" is more than a sixteenth of \"memory-max\" ({share})"),
                        "a few names can keep the broker from taking on anything new: write less, or leave it out",
                    );
                }
            }
        }
        if limits.sessions_per_principal_max > limits.sessions_max {
            let blamed = if view.has("sessions-per-principal-max") {
                "sessions-per-principal-max"
            } else {
                "sessions-max"
            };
            self.problem(&view.place(blamed), "\"sessions-per-principal-max\" is more than \"sessions-max\"");
        }
    }

    pub(super) fn admin(&mut self, root: &Table) -> Admin {
        let view = self.section(root, Section::Admin);
        let metrics_address = self.address(&view, "metrics-address");
        if metrics_address.is_some_and(|address| !address.ip().is_loopback()) {
            let at = view.place("metrics-address");
            self.warning(
                &at,
                "\"metrics-address\" is not a loopback address",
                "whoever can reach it can read the metrics: keep it behind a firewall",
            );
        }
        Admin { socket: self.file(&view, "socket"), metrics_address }
    }

    pub(super) fn log(&mut self, root: &Table) -> Log {
        let view = self.section(root, Section::Log);
        Log {
            format: match self.choice(&view, "format") {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            level: match self.choice(&view, "level") {
                "error" => LogLevel::Error,
                "warn" => LogLevel::Warn,
                "debug" => LogLevel::Debug,
                "trace" => LogLevel::Trace,
                _ => LogLevel::Info,
            },
        }
    }

    pub(super) fn system(&mut self, root: &Table) -> System {
        let view = self.section(root, Section::System);
        let some = |value: Duration| (!value.is_zero()).then_some(value);
        System {
            sys_interval: some(self.time(&view, "sys-interval")),
            watch_files_interval: some(self.time(&view, "watch-files-interval")),
            state_directory: view.has("state-directory").then(|| self.file(&view, "state-directory")),
            shutdown_timeout: self.time(&view, "shutdown-timeout"),
            traffic_threads: NonZeroU16::new(self.count_u16(&view, "traffic-threads")),
            handshake_threads: NonZeroU16::new(self.count_u16(&view, "handshake-threads")),
        }
    }

    /// The names that a listener accepts.
    fn name_rule(&mut self, view: &View<'_>, source: IdentitySource) -> NameRule {
        let extra = self.characters(view, "name-extra-characters");
        let length = self.number_of(view, "name-length-max");
        let rule = match NameRule::new(length, &extra) {
            Ok(rule) => rule,
            Err(error) => {
                self.problem(
                    &view.place("name-extra-characters"),
                    format!("\"name-extra-characters\": {error}"),
                );
                NameRule::default()
            }
        };
        let prefix = self.characters(view, "san-uri-prefix");
        if prefix.is_empty() {
            return rule;
        }
        if source != IdentitySource::SanUri {
            let at = view.place("san-uri-prefix");
            self.problem_with_hint(
                &at,
                "\"san-uri-prefix\" has no effect",
                "write identity = \"san-uri\", or remove it",
            );
        }
        rule.with_uri_prefix(&prefix)
    }

    fn number_of(&mut self, view: &View<'_>, name: &str) -> usize {
        usize::try_from(self.count(view, name)).unwrap_or(usize::MAX)
    }

    fn size_of(&mut self, view: &View<'_>, name: &str) -> usize {
        usize::try_from(self.bytes(view, name)).unwrap_or(usize::MAX)
    }

    /// A duration that MQTT counts in whole seconds; `None` for "never".
    fn whole_secs(&mut self, view: &View<'_>, name: &str) -> Option<u32> {
        let value = self.time_or_never(view, name)?;
        if value.subsec_nanos() != 0 {
            self.problem(&view.place(name), format!("\"{name}\" must be whole seconds"));
        }
        Some(u32::try_from(value.as_secs()).unwrap_or(u32::MAX))
    }
}

/// A number of bytes whose bounds begin above 0.
fn non_zero(value: u64) -> NonZeroU32 {
    u32::try_from(value).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
