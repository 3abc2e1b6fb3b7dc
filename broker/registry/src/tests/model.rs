//! Random commands: whatever is asked in whatever order, the registry stays as it must be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::audit::verify;

/// A command in small numbers, so that random ones meet.
#[derive(Debug, Clone)]
enum Step {
    AddThing(u8),
    DeleteThing(u8),
    Approve(u8, bool),
    Quarantine(u8, bool),
    Issue { label: u8, key: u8, thing: u8 },
    Register { label: u8, key: u8, thing: u8, active: bool },
    Admit { label: u8, key: u8, thing: u8 },
    Policy(u8),
    Names(bool),
    Begin { label: u8, key: u8, asker: u8 },
    Enrol { index: u8, thing: u8, wrong: u8, replace: bool },
    Renew { label: u8, asker: u8 },
    Complete { label: u8 },
    Retire,
    Activate(Pick),
    Suspend(Pick),
    Revoke(Pick, u8),
    Bind { label: u8, thing: u8 },
    Delete { label: u8 },
    Expire,
    Purge,
    Token { label: u8, thing: u8 },
    UseToken { token: u8, label: u8, connected: bool },
    AskApproval { label: u8, thing: u8 },
    DecideApproval { label: u8, approved: bool },
    EndApproval(u8),
    SuspendClaim(bool),
    Pass(u16),
}

#[derive(Debug, Clone)]
enum Pick {
    Certificate(u8),
    Thing(u8),
    Serial(u8, bool),
    Issuer(bool),
    Ca(bool),
}

const LABELS: std::ops::Range<u8> = 0..40;
const THINGS: std::ops::Range<u8> = 0..4;
const KEYS: std::ops::Range<u8> = 0..24;

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        6 => LABELS.prop_map(Pick::Certificate),
        4 => THINGS.prop_map(Pick::Thing),
        2 => (LABELS, any::<bool>()).prop_map(|(label, own)| Pick::Serial(label, own)),
        1 => any::<bool>().prop_map(Pick::Issuer),
        1 => any::<bool>().prop_map(Pick::Ca),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let three = || (LABELS, KEYS, THINGS);
    prop_oneof![
        1 => THINGS.prop_map(Step::AddThing),
        1 => THINGS.prop_map(Step::DeleteThing),
        1 => (THINGS, any::<bool>()).prop_map(|(thing, yes)| Step::Approve(thing, yes)),
        1 => (THINGS, any::<bool>()).prop_map(|(thing, yes)| Step::Quarantine(thing, yes)),
        6 => three().prop_map(|(label, key, thing)| Step::Issue { label, key, thing }),
        4 => (three(), any::<bool>())
            .prop_map(|((label, key, thing), active)| Step::Register { label, key, thing, active }),
        4 => three().prop_map(|(label, key, thing)| Step::Admit { label, key, thing }),
        2 => (0u8..4).prop_map(Step::Policy),
        1 => any::<bool>().prop_map(Step::Names),
        6 => (LABELS, KEYS, LABELS).prop_map(|(label, key, asker)| Step::Begin { label, key, asker }),
        8 => (LABELS, THINGS, 0u8..16, any::<bool>())
            .prop_map(|(index, thing, wrong, replace)| Step::Enrol { index, thing, wrong, replace }),
        3 => (LABELS, LABELS).prop_map(|(label, asker)| Step::Renew { label, asker }),
        2 => LABELS.prop_map(|label| Step::Complete { label }),
        2 => Just(Step::Retire),
        4 => pick().prop_map(Step::Activate),
        3 => pick().prop_map(Step::Suspend),
        1 => (pick(), 0u8..7).prop_map(|(pick, reason)| Step::Revoke(pick, reason)),
        2 => (LABELS, THINGS).prop_map(|(label, thing)| Step::Bind { label, thing }),
        1 => LABELS.prop_map(|label| Step::Delete { label }),
        1 => Just(Step::Expire),
        1 => Just(Step::Purge),
        2 => (0u8..8, THINGS).prop_map(|(label, thing)| Step::Token { label, thing }),
        2 => (0u8..8, LABELS, any::<bool>())
            .prop_map(|(token, label, connected)| Step::UseToken { token, label, connected }),
        2 => (LABELS, THINGS).prop_map(|(label, thing)| Step::AskApproval { label, thing }),
        1 => (0u8..8, any::<bool>())
            .prop_map(|(label, approved)| Step::DecideApproval { label, approved }),
        1 => (0u8..8).prop_map(Step::EndApproval),
        1 => prop::bool::weighted(0.3).prop_map(Step::SuspendClaim),
        4 => (0u16..120).prop_map(Step::Pass),
        1 => (0u16..6000).prop_map(Step::Pass),
    ]
}

struct Model {
    world: World,
    claim: CertificateId,
    own: CaId,
    maker: CaId,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        let claim = world.add_claim("line-1", |claim| claim.devices_max = Some(20));
        let [own, maker] = ["own", "maker"].map(|label| world.ca(label).id);
        Self { world, claim, own, maker }
    }

    fn new_certificate(&self, issuer: &str, label: u8, public: u8) -> NewCertificate {
        let text = format!("c{label}");
        let from = START.unix_secs();
        testing::certificate(
            key(issuer),
            &text,
            key(&format!("k{public}")),
            from,
            (i64::from(label) % 12 + 1) * DAY_SECS,
        )
    }

    /// One of the registered certificates: the claim's is among them.
    fn id(&self, index: u8) -> CertificateId {
        let all = &self.world.registry.by_serial;
        all.iter().nth(usize::from(index) % all.len()).unwrap().0.id
    }

    /// One of the requests for approval, or one that there is not.
    fn request(&self, index: u8) -> RequestId {
        let known: Vec<_> = self.world.registry.approvals.keys().collect();
        known.get(usize::from(index)).map_or(RequestId::from_bytes([index; 32]), |id| **id)
    }

    /// The claim, or some certificate.
    fn asker(&self, index: u8) -> CertificateId {
        if index.is_multiple_of(2) { self.claim } else { self.id(index / 2) }
    }

    /// The registration that follows an enrolment, right in most cases, with something wrong in some.
    fn registration(&self, index: u8, thing: u8, wrong: u8, if_exists: IfExists) -> Option<RegisterThing> {
        let waiting: Vec<_> = self.world.registry.ownership.iter().collect();
        let (token, certificate) = waiting.get(usize::from(index) % waiting.len().max(1))?;
        let Status::Pending(pending) = &self.world.registry.certificate(certificate)?.status else {
            return None;
        };
        let enrolment = pending.enrolment.as_ref()?;
        let rotates = (enrolment.by.role == Role::Device) != (wrong == 0);
        let own = enrolment.by.role == Role::Device && wrong != 1;
        let name = if own { enrolment.by.name.clone() } else { thing_name(thing) };
        let pairs = BTreeMap::from([("version".into(), wrong.to_string().into())]);
        Some(RegisterThing {
            token: if wrong == 2 { TokenHash::of(b"wrong") } else { **token },
            asker: if wrong == 3 { self.id(index) } else { enrolment.asker },
            template: template_name(if rotates { "rotation" } else { "fleet" }),
            thing: ThingSpec { attributes: Attributes::new(pairs).unwrap(), ..ThingSpec::named(name) },
            serial: None,
            if_exists,
            enter: if wrong == 4 { Enter::Inactive } else { Enter::Active },
            never_connected: if wrong == 5 {
                Vec::new()
            } else {
                LABELS.map(|index| self.id(index)).collect()
            },
        })
    }

    fn selector(&self, pick: &Pick) -> Selector {
        let issuer = |own: bool| key(if own { "own" } else { "maker" });
        match pick {
            Pick::Certificate(label) => Selector::Certificate(self.id(*label)),
            Pick::Thing(thing) => Selector::thing(thing_name(*thing)),
            Pick::Serial(label, own) => {
                let serial = testing::serial(&format!("c{label}"));
                Selector::Serial { issuer: Some(issuer(*own)), serial }
            }
            Pick::Issuer(own) => Selector::Issuer(issuer(*own)),
            Pick::Ca(own) => Selector::Ca(if *own { self.own } else { self.maker }),
        }
    }

    fn ca_settings(&self, change: impl FnOnce(&mut CaSettings)) -> Command {
        let mut settings = self.world.registry.ca(&self.maker).unwrap().settings.clone();
        change(&mut settings);
        Command::UpdateCa { ca: self.maker, settings }
    }

    fn command(&self, step: &Step) -> Option<Command> {
        let now = self.world.now;
        let soon = Wall(now.0 + 3_600_000);
        let spec = |thing: u8| ThingSpec::named(thing_name(thing));
        let holder = |thing: u8| PrincipalKey { role: Role::Device, name: thing_name(thing) };
        let token = |label: u8| TokenHash::of(&[label]);
        Some(match *step {
            Step::AddThing(thing) => Command::AddThing(spec(thing)),
            Step::DeleteThing(thing) => Command::DeleteThing(thing_name(thing)),
            Step::Approve(thing, yes) => {
                Command::ApproveThing { thing: thing_name(thing), until: yes.then_some(soon) }
            }
            Step::Quarantine(thing, true) => {
                Command::Quarantine { thing: thing_name(thing), why: Line::new("tried") }
            }
            Step::Quarantine(thing, false) => Command::Release(thing_name(thing)),
            Step::Issue { label, key, thing } => {
                Command::Issue { certificate: self.new_certificate("own", label, key), holder: holder(thing) }
            }
            Step::Register { label, key, thing, active } => Command::RegisterCertificate {
                certificate: self.new_certificate("maker", label, key),
                holder: holder(thing),
                enter: if active { Enter::Active } else { Enter::Inactive },
            },
            Step::Admit { label, key, thing } => Command::AdmitUnknown {
                certificate: self.new_certificate("maker", label, key),
                name: thing_name(thing),
            },
            Step::Policy(policy) => self.ca_settings(|settings| {
                settings.unknown = match policy {
                    0 => UnknownPolicy::RegisteredOnly,
                    1 => UnknownPolicy::Auto,
                    2 => UnknownPolicy::Jitr,
                    _ => UnknownPolicy::Jitp(template_name("jitp")),
                };
            }),
            Step::Names(wide) => {
                self.ca_settings(|settings| settings.names = patterns(if wide { &["sn*"] } else { &["sn0"] }))
            }
            Step::Begin { label, key, asker } => Command::BeginEnrolment {
                certificate: self.new_certificate("own", label, key),
                asker: self.asker(asker),
                token: token(label),
                until: soon,
            },
            Step::Enrol { index, thing, wrong, replace } => {
                let if_exists = if replace { IfExists::Replace } else { IfExists::Refuse };
                Command::RegisterThing(Box::new(self.registration(index, thing, wrong, if_exists)?))
            }
            Step::Renew { label, asker } => Command::Renew {
                certificate: self.new_certificate("own", label, label % 24),
                asker: self.id(asker),
            },
            Step::Complete { label } => {
                Command::CompleteRotation { certificate: self.id(label), retire_at: soon }
            }
            Step::Retire => Command::RetireSuperseded { at_most: 3 },
            Step::Activate(ref pick) => Command::Activate(self.selector(pick)),
            Step::Suspend(ref pick) => Command::Suspend(self.selector(pick)),
            Step::Revoke(ref pick, reason) => Command::Revoke {
                selector: self.selector(pick),
                reason: RevocationReason::ALL[usize::from(reason)],
            },
            Step::Bind { label, thing } => {
                Command::BindCertificate { certificate: self.id(label), holder: holder(thing) }
            }
            Step::Delete { label } => Command::DeleteCertificate(self.id(label)),
            Step::Expire => Command::ExpirePending { at_most: 3 },
            Step::Purge => Command::PurgeExpired { before: now, at_most: 3 },
            Step::Token { label, thing } => {
                let note = Line::default();
                Command::CreateToken(TokenSpec { hash: token(label), thing: spec(thing), until: soon, note })
            }
            Step::UseToken { token: of, label, connected } => Command::UseToken {
                token: token(of),
                certificate: self.new_certificate("own", label, label % 24),
                never_connected: if connected {
                    Vec::new()
                } else {
                    LABELS.map(|index| self.id(index)).collect()
                },
            },
            Step::AskApproval { label, thing } => Command::AskApproval(ApprovalRequest {
                id: RequestId::of(&thing_name(thing), None, &[label]),
                device: thing_name(thing),
                key: key("k"),
                label: None,
                address: Line::default(),
            }),
            Step::DecideApproval { label, approved } => {
                Command::DecideApproval { request: self.request(label), approved }
            }
            Step::EndApproval(label) => Command::EndApproval(self.request(label)),
            Step::SuspendClaim(suspended) => Command::SuspendClaim { claim: name("line-1"), suspended },
            Step::Pass(_) => return None,
        })
    }
}

fn thing_name(thing: u8) -> ThingName {
    name(&format!("sn{thing}"))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..100)
}

impl Model {
    fn take(&mut self, step: &Step) {
        match (step, self.command(step)) {
            (Step::Pass(minutes), _) => self.world.pass(i64::from(*minutes) * 60),
            (_, Some(command)) => drop(self.world.run(command)),
            (_, None) => {}
        }
    }
}

/// Random commands that are all refused would show nothing.
#[test]
fn the_random_commands_reach_every_change_of_a_certificate() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, usize>::new();
    for _ in 0..200 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
        for event in &model.world.events {
            *seen.entry(event.change.metric_label()).or_default() += 1;
        }
    }
    for label in [
        "thing_added",
        "thing_changed",
        "thing_deleted",
        "thing_approved",
        "certificate_added",
        "certificate_bound",
        "certificate_activated",
        "certificate_suspended",
        "certificate_revoked",
        "certificate_deleted",
        "serial_revoked",
        "rotation_started",
        "rotation_completed",
        "rotation_abandoned",
        "ca_changed",
        "ca_revoked",
        "claim_suspended",
        "claim_used",
        "token_added",
        "token_used",
        "ca_used",
        "approval_asked",
        "approval_decided",
        "approval_ended",
    ] {
        assert!(seen.contains_key(label), "{label} never happened: {seen:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// [`World::run`] checks after every command what must hold; here in the end, that the events are the truth.
    #[test]
    fn any_commands_in_any_order_leave_a_registry_that_its_events_make_again(
        steps in steps(),
    ) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
        let world = &model.world;
        let decoded: Vec<Event> = world.rows.iter().map(|row| row.decode().unwrap()).collect();
        let again = Registry::replay(Limits::default(), &decoded);
        prop_assert_eq!(&again, &world.registry);
        prop_assert_eq!(verify(&world.rows, None).unwrap().seq, world.registry.events_applied());
    }

    /// A store that is damaged in a way that the hash chain does not cover must not stop the broker either.
    #[test]
    fn events_in_any_order_are_applied_without_a_panic(
        steps in steps(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
        let mut registry = Registry::default();
        for index in order {
            registry.apply(index.get(&model.world.events));
        }
        prop_assert!(registry.events_applied() > 0);
    }
}
