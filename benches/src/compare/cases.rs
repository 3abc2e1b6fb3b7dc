//! What a comparison measures.

use anyhow::Result;
use serde::Serialize;

use super::Plan;
use crate::broker::Running;
use crate::cli::{Measure, Need, Tls};
use crate::floor::Floor;
use crate::flow::Qos;
use crate::pki::Pki;
use crate::report::Record;
use crate::{enrol, flow, handshake, idle, local, retained, revoke, sparse, storm, threads};

/// One run, and what of its results stands in the table.
pub(super) struct Case {
    /// Names it among the results.
    pub(super) id: String,
    pub(super) load: Load,
    pub(super) tls: Tls,
    /// Whether peers are measured too.
    pub(super) peers: bool,
    /// Rounds in which it runs, at most.
    pub(super) rounds_max: u32,
    pub(super) rows: Vec<Row>,
}

/// A line of the table.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) unit: &'static str,
    /// The name in [`Record::results`].
    pub(super) result: &'static str,
    /// What the cryptography alone would cost.
    pub(super) floor: Option<fn(&Floor) -> f64>,
}

pub(super) enum Load {
    Handshake(handshake::Load),
    Idle(idle::Load),
    Flow(flow::Load),
    Sparse(sparse::Load),
    Storm(storm::Load),
    Retained(retained::Load),
    Revoke(revoke::Load),
    Enrol(enrol::Load),
    Acl(local::AclLoad),
    Match(local::MatchLoad),
    Threads(threads::Load),
}

impl Load {
    /// What needs no broker is measured here; `None`: it needs one.
    pub(super) fn alone(&self) -> Option<Result<Record>> {
        match self {
            Self::Acl(load) => Some(local::acl(load)),
            Self::Match(load) => Some(local::matching(load)),
            Self::Threads(load) => Some(threads::measure(load)),
            _ => None,
        }
    }
}

macro_rules! of_each {
    ($self:ident, $load:ident => $do:expr, $alone:expr) => {
        match $self {
            Self::Handshake($load) => $do,
            Self::Idle($load) => $do,
            Self::Flow($load) => $do,
            Self::Sparse($load) => $do,
            Self::Storm($load) => $do,
            Self::Retained($load) => $do,
            Self::Revoke($load) => $do,
            Self::Enrol($load) => $do,
            Self::Acl(_) | Self::Match(_) | Self::Threads(_) => $alone,
        }
    };
}

impl Measure for Load {
    fn need(&self) -> Need {
        of_each!(self, load => load.need(), Need::default())
    }

    async fn measure(&self, broker: &Running, pki: &Pki) -> Result<Record> {
        of_each!(self, load => load.measure(broker, pki).await, anyhow::bail!("it needs no broker"))
    }
}

impl Serialize for Load {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Handshake(load) => load.serialize(serializer),
            Self::Idle(load) => load.serialize(serializer),
            Self::Flow(load) => load.serialize(serializer),
            Self::Sparse(load) => load.serialize(serializer),
            Self::Storm(load) => load.serialize(serializer),
            Self::Retained(load) => load.serialize(serializer),
            Self::Revoke(load) => load.serialize(serializer),
            Self::Enrol(load) => load.serialize(serializer),
            Self::Acl(load) => load.serialize(serializer),
            Self::Match(load) => load.serialize(serializer),
            Self::Threads(load) => load.serialize(serializer),
        }
    }
}

fn row(title: impl Into<String>, unit: &'static str, result: &'static str) -> Row {
    Row { title: title.into(), unit, result, floor: None }
}

impl Case {
    fn new(id: impl Into<String>, load: Load, rows: Vec<Row>) -> Self {
        Self { id: id.into(), load, tls: Tls::V13, peers: true, rounds_max: u32::MAX, rows }
    }

    fn tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// Signet alone is measured: the others have nothing like it, or it would take too long.
    fn alone(self) -> Self {
        Self { peers: false, ..self }
    }

    fn rounds(self, rounds_max: u32) -> Self {
        Self { rounds_max, ..self }
    }
}

/// All cases, in the order of the table.
pub(super) fn all(plan: &Plan) -> Vec<Case> {
    let mut cases = handshakes(plan);
    cases.extend(memory(plan));
    cases.extend(flows(plan));
    cases.extend(returns(plan));
    cases.extend(registry(plan));
    cases.extend(inside());
    cases
}

fn handshakes(plan: &Plan) -> Vec<Case> {
    let base = handshake::Load { connects: plan.connects, ..handshake::Load::default() };
    let case = |id: &str, title: &str, floor: fn(&Floor) -> f64, load: handshake::Load| {
        let mut row = row(title, "us CPU", "cpu_per_connect_us");
        row.floor = Some(floor);
        Case::new(id, Load::Handshake(load), vec![row])
    };
    let first = |id, title, load| case(id, title, Floor::handshake_us, load);
    let back = |id, title, load| case(id, title, Floor::returning_us, load);
    let returning = handshake::Load { returning: true, ..base.clone() };
    let resumed = handshake::Load { resumed: true, ..base.clone() };
    let crl = plan.crl;
    let crl_title = |what: &str| format!("{what}, a revocation list of {crl} in force");
    let anchor = |load: &handshake::Load| handshake::Load { issuing_anchor: true, ..load.clone() };
    // The chain ends one certificate sooner.
    let anchored = |floor: &Floor| floor.handshake_us() - floor.one_verification_us();
    vec![
        first("handshake-first", "full connect, device never seen", base.clone()),
        back("handshake-returning", "full connect, returning device", returning.clone()),
        case("handshake-resumed", "resumed connect", Floor::resumed_us, resumed.clone()),
        first(
            "handshake-bare",
            "full connect without MQTT, device never seen",
            handshake::Load { bare: true, ..base.clone() },
        ),
        first("handshake-first-tls12", "TLS 1.2: full connect, never seen", base.clone()).tls(Tls::V12),
        back("handshake-returning-tls12", "TLS 1.2: full connect, returning", returning.clone())
            .tls(Tls::V12),
        case("handshake-resumed-tls12", "TLS 1.2: resumed connect", |_| 0.0, resumed).tls(Tls::V12),
        case(
            "handshake-first-anchor",
            "issuing authority trusted: full connect, never seen",
            anchored,
            anchor(&base),
        ),
        case(
            "handshake-first-crl",
            &crl_title("issuing authority trusted: never seen"),
            anchored,
            handshake::Load { crl, ..anchor(&base) },
        ),
        back(
            "handshake-returning-anchor",
            "issuing authority trusted: full connect, returning",
            anchor(&returning),
        ),
        back(
            "handshake-returning-crl",
            &crl_title("issuing authority trusted: returning"),
            handshake::Load { crl, ..anchor(&returning) },
        ),
        first(
            "handshake-strangers",
            "never seen, and a quarter as many strangers, each connect",
            handshake::Load { strangers: 25, ..base },
        ),
    ]
}

fn memory(plan: &Plan) -> Vec<Case> {
    plan.idle
        .iter()
        .map(|connections| {
            let title = format!("idle connection, of {connections}");
            let rows = vec![
                row(title.clone(), "KiB RSS", "rss_per_connection_kib"),
                row(title, "KiB PSS", "pss_per_connection_kib"),
            ];
            let load = Load::Idle(idle::Load { connections: *connections });
            let case = Case::new(format!("idle-{connections}"), load, rows);
            if *connections > 5000 { case.rounds(1) } else { case.rounds(3) }
        })
        .collect()
}

fn flows(plan: &Plan) -> Vec<Case> {
    let base = flow::Load { messages: plan.messages, ..flow::Load::default() };
    let case = |id: &str, title: String, load: flow::Load| {
        let result = if load.fan_out == 1 { "cpu_per_message_us" } else { "cpu_per_delivery_us" };
        Case::new(id, Load::Flow(load), vec![row(title, "us CPU", result)])
    };
    let pairs = |qos, name: &str| {
        let title = format!("1:1 QoS {name}, 64 bytes, per message");
        case(&format!("pairs-qos{name}"), title, flow::Load { qos, ..base.clone() })
    };
    let sized = |payload: u32, name: &str| {
        // The same number of bytes or fewer, so that large payloads do not take longer.
        let messages = (plan.messages * 1024 / payload).clamp(50, plan.messages);
        let title = format!("1:1 QoS 0, {name}, per message");
        case(&format!("pairs-{payload}"), title, flow::Load { payload, messages, ..base.clone() })
    };
    let fan_out = plan.fan_out;
    let sparse = sparse::Load { connections: plan.sparse, ..sparse::Load::default() };
    let speakers = sparse.connections;
    vec![
        pairs(Qos::Zero, "0"),
        pairs(Qos::One, "1"),
        pairs(Qos::Two, "2"),
        sized(1024, "1 KiB"),
        sized(16 * 1024, "16 KiB"),
        sized(64 * 1024, "64 KiB"),
        case(
            "fan-in",
            "fan-in, 10 to 1, QoS 0, per message".to_owned(),
            flow::Load { fan_in: true, ..base.clone() },
        ),
        case(
            "fan-out",
            format!("fan-out 1 to {fan_out}, QoS 0, per delivery"),
            flow::Load { publishers: 1, fan_out, messages: plan.fan_out_messages, ..base.clone() },
        ),
        case(
            "fan-out-qos1",
            format!("fan-out 1 to {fan_out}, QoS 1, per delivery"),
            flow::Load { qos: Qos::One, publishers: 1, fan_out, messages: plan.fan_out_messages / 2, ..base },
        ),
        Case::new(
            "sparse",
            Load::Sparse(sparse),
            vec![
                row(
                    format!("sparse: {speakers} devices, a message a second each, per message"),
                    "us CPU",
                    "cpu_per_message_us",
                ),
                row("sparse: latency, p50", "ms", "latency_p50_ms"),
                row("sparse: latency, p99", "ms", "latency_p99_ms"),
            ],
        )
        .rounds(2),
        Case::new(
            "retained",
            Load::Retained(retained::Load::default()),
            vec![row("retained messages to a new subscriber, per delivery", "us CPU", "cpu_per_delivery_us")],
        ),
    ]
}

fn returns(plan: &Plan) -> Vec<Case> {
    plan.storm
        .iter()
        .map(|devices| {
            let rows = vec![
                row(format!("storm: {devices} devices drop, until all are back"), "s", "all_back_seconds"),
                row(format!("storm of {devices}: per return"), "us CPU", "cpu_per_return_us"),
                row(format!("storm of {devices}: steady pairs before, p99"), "ms", "steady_before_p99_ms"),
                row(format!("storm of {devices}: steady pairs meanwhile, p99"), "ms", "steady_during_p99_ms"),
            ];
            let load = storm::Load { devices: *devices, ..storm::Load::default() };
            let case = Case::new(format!("storm-{devices}"), Load::Storm(load), rows);
            if *devices > 5000 { case.rounds(1).alone() } else { case.rounds(3) }
        })
        .collect()
}

fn registry(plan: &Plan) -> Vec<Case> {
    let mut cases = Vec::new();
    for devices in &plan.revoke {
        for (by, name) in [(revoke::By::Registry, "command"), (revoke::By::Crl, "list")] {
            let what = format!("revoked by a {name}, {devices} at once");
            let mut rows = vec![
                row(format!("{what}: from the beginning to the close, p50"), "ms", "from_begin_p50_ms"),
                row(format!("{what}: p99"), "ms", "from_begin_p99_ms"),
                row(format!("{what}: the last one"), "ms", "from_begin_max_ms"),
                row(format!("{what}: the last one, from the return"), "ms", "from_return_max_ms"),
                row(format!("{what}: steady pairs before, p99"), "ms", "steady_before_p99_ms"),
                row(format!("{what}: steady pairs meanwhile, p99"), "ms", "steady_during_p99_ms"),
            ];
            if by == revoke::By::Registry {
                rows.insert(0, row(format!("revoked one by one, {devices} connected: from the return to the close, slowest of 20"), "ms", "single_from_return_max_ms"));
            }
            let load = revoke::Load { devices: *devices, by, ..revoke::Load::default() };
            let case = Case::new(format!("revoke-{name}-{devices}"), Load::Revoke(load), rows).alone();
            cases.push(if *devices > 5000 { case.rounds(1) } else { case.rounds(3) });
        }
    }
    let mut cpu = row("enrolment, from claim to first telemetry, per device", "us CPU", "cpu_per_device_us");
    cpu.floor = Some(Floor::enrolment_us);
    let rows = vec![
        cpu,
        row("enrolment at 50 a second: answer to the signing request, p99", "ms", "create_p99_ms"),
        row("enrolment at 50 a second: answer to RegisterThing, p99", "ms", "register_p99_ms"),
        row("enrolment at 50 a second: in all, p99", "ms", "total_p99_ms"),
    ];
    cases.push(Case::new("enrol-50", Load::Enrol(enrol::Load::default()), rows).alone().rounds(2));
    let all_out = enrol::Load { per_second: 0, ..enrol::Load::default() };
    let rows = vec![row("enrolment, as fast as it goes", "devices/s", "devices_per_second")];
    cases.push(Case::new("enrol-fast", Load::Enrol(all_out), rows).alone().rounds(2));
    cases
}

fn inside() -> Vec<Case> {
    let acl = |policy| local::AclLoad { identities: 1_000_000, policy };
    let index = |wildcard| local::MatchLoad { subscriptions: 1_000_000, wildcard };
    let decisions = |id: &str, name: &str, policy| {
        let rows = vec![
            row(format!("access decision, 1 000 000 devices, {name}, warm"), "ns CPU", "allowed_warm_ns"),
            row(format!("access decision, 1 000 000 devices, {name}, cold"), "ns CPU", "allowed_cold_ns"),
        ];
        Case::new(id, Load::Acl(acl(policy)), rows).alone().rounds(1)
    };
    let look_ups = |id: &str, name: &str, wildcard| {
        let rows = vec![
            row(format!("match in 1 000 000 subscriptions, {name}, warm"), "ns CPU", "device_warm_ns"),
            row(format!("match in 1 000 000 subscriptions, {name}, cold"), "ns CPU", "device_cold_ns"),
        ];
        Case::new(id, Load::Match(index(wildcard)), rows).alone().rounds(1)
    };
    vec![
        decisions("acl-patterns", "patterns", local::PolicyKind::Patterns),
        decisions("acl-sections", "a section each", local::PolicyKind::Sections),
        look_ups("match-exact", "exact", false),
        look_ups("match-wildcard", "wildcard", true),
        Case::new(
            "threads",
            Load::Threads(threads::Load::default()),
            vec![
                row("core, 1 thread, per message", "ns CPU", "one_hub_1_threads_ns"),
                row("core, 2 threads: cost of sharing", "ratio", "sharing_2_threads_ratio"),
                row("core, 16 threads: cost of sharing", "ratio", "sharing_16_threads_ratio"),
            ],
        )
        .alone()
        .rounds(1),
    ]
}
