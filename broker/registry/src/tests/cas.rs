//! Authorities, and certificates that they bring in.

use super::*;

fn named(patterns_of: &[&str]) -> CaSettings {
    CaSettings::registered_only(patterns(patterns_of))
}

fn admit(label: &str, holder: &str) -> Command {
    Command::AdmitUnknown { certificate: certificate("maker", label), name: name(holder) }
}

fn provision(label: &str, template: &str, holder: &str, if_exists: IfExists) -> Command {
    let template = template_name(template);
    let certificate = certificate("maker", label);
    Command::ProvisionJustInTime {
        certificate,
        template,
        thing: thing(holder),
        if_exists,
        enter: Enter::Active,
    }
}

#[test]
fn two_authorities_give_one_name_only_when_that_is_said() {
    let mut world = World::empty();
    let first = world.add_ca("1", Source::Outside, named(&["sensor-*"])).unwrap();
    let clash = |pattern: &str| RegistryError::NamesClash { other: first, pattern: pattern.parse().unwrap() };
    assert_eq!(world.add_ca("2", Source::Outside, named(&["gate-*", "*-7"])), Err(clash("*-7")));
    let second = world.add_ca("2", Source::Outside, named(&["gate-*"])).unwrap();
    let widened = named(&["gate-*", "sensor-1"]);
    let update = |settings| Command::UpdateCa { ca: second, settings };
    assert_eq!(world.refused(update(widened.clone())), clash("sensor-1"));
    world.must(update(CaSettings { shares_names_with: vec![first], ..widened }));
    // Operators of the same name are other identities.
    let operators = CaSettings { role: Role::Operator, ..named(&["sensor-*"]) };
    assert!(world.add_ca("3", Source::Outside, operators).is_ok());
    // What this broker signs may be for any role.
    assert!(matches!(world.add_ca("own", Source::Own, named(&["*"])), Err(RegistryError::NamesClash { .. })));
}

#[test]
fn two_authorities_of_this_broker_share_their_names() {
    let mut world = World::new();
    assert!(matches!(
        world.add_ca("next", Source::Own, named(&["*"])),
        Err(RegistryError::NamesClash { .. })
    ));
    let maker = world.ca("maker").id;
    let next = CaSettings { shares_names_with: vec![maker], ..named(&["*"]) };
    assert!(world.add_ca("next", Source::Own, next).is_ok());
}

#[test]
fn an_authority_is_registered_once_for_a_key_and_while_it_is_valid() {
    let mut world = World::new();
    let own = world.ca("own").id;
    assert_eq!(world.add_ca("own", Source::Own, named(&["*"])), Err(RegistryError::CaExists(own)));
    let renewed = NewCa {
        certificate: certificate_with_key("root", "own renewed", "own"),
        source: Source::Own,
        settings: named(&["*"]),
    };
    assert_eq!(world.refused(Command::AddCa(renewed)), RegistryError::CaExists(own));
    world.pass(31 * DAY_SECS);
    assert!(matches!(world.add_ca("late", Source::Own, named(&[])), Err(RegistryError::Expired(_))));
}

#[test]
fn only_devices_of_outside_authorities_come_in_unregistered() {
    let mut world = World::new();
    let auto = |settings: CaSettings| CaSettings { unknown: UnknownPolicy::Auto, ..settings };
    let only = |result| matches!(result, Err(RegistryError::OnlyRegistered(_)));
    assert!(only(world.add_ca("1", Source::Own, auto(named(&[])))));
    for role in [Role::Operator, Role::Claim] {
        assert!(only(world.add_ca("1", Source::Outside, auto(CaSettings { role, ..named(&["x"]) }))));
    }
    assert!(world.add_ca("1", Source::Outside, CaSettings { names: Vec::new(), ..auto(named(&[])) }).is_ok());
    let jitp = |template| CaSettings { unknown: UnknownPolicy::Jitp(template_name(template)), ..named(&[]) };
    let no = RegistryError::NoTemplate(template_name("none"));
    assert_eq!(world.add_ca("2", Source::Outside, jitp("none")), Err(no));
    let not = RegistryError::TemplateNotAllowed(template_name("fleet"));
    assert_eq!(world.add_ca("2", Source::Outside, jitp("fleet")), Err(not));
    assert!(world.add_ca("2", Source::Outside, jitp("jitp")).is_ok());
}

#[test]
fn an_unknown_certificate_is_refused_unless_its_authority_admits_it() {
    let mut world = World::new();
    assert_eq!(world.standing("maker", "1"), Standing::Unknown);
    assert_eq!(world.standing("own", "1"), Standing::Unknown);
    assert_eq!(world.standing("nobody", "1"), Standing::Unknown);
    let maker = world.ca("maker").id;
    assert_eq!(world.refused(admit("1", "sn1")), RegistryError::NotAdmitted(maker));
    world.set_policy(UnknownPolicy::Auto);
    let admissible = Standing::Admissible { ca: maker, policy: UnknownPolicy::Auto, role: Role::Device };
    assert_eq!(world.standing("maker", "1"), admissible);
    let mut settings = world.ca("maker").settings;
    settings.registers = false;
    world.must(Command::UpdateCa { ca: maker, settings });
    assert_eq!(world.standing("maker", "1"), Standing::Unknown);
    assert_eq!(world.refused(admit("1", "sn1")), RegistryError::CaSuspended(maker));
}

#[test]
fn an_admitted_device_has_the_name_that_it_gives_within_what_its_authority_may_name() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Auto);
    let not = |holder| RegistryError::NameNotAllowed { ca: world.ca("maker").id, holder };
    let refusal = not(device("gate"));
    assert_eq!(world.refused(admit("1", "gate")), refusal);
    world.must(admit("1", "sn1"));
    let Standing::Active(active) = world.standing("maker", "1") else { panic!("it should be active") };
    assert_eq!((active.thing(), active.groups()), (Some(&name("sn1")), &[][..]));
    // Narrowing the names takes the standing away.
    let ca = world.ca("maker");
    let settings = CaSettings { names: patterns(&["sn2*"]), ..ca.settings };
    world.must(Command::UpdateCa { ca: ca.id, settings });
    assert_eq!(world.standing("maker", "1"), Standing::Inactive(Suspended::Authority));
    assert_eq!(world.effects.lost.len(), 1);
}

#[test]
fn a_thing_that_was_revoked_or_suspended_does_not_come_back_with_another_certificate() {
    for revoke in [true, false] {
        let mut world = World::new();
        world.set_policy(UnknownPolicy::Auto);
        world.must(admit("1", "sn1"));
        let selector = Selector::thing(name("sn1"));
        world.must(if revoke {
            Command::Revoke { selector, reason: RevocationReason::KeyCompromise }
        } else {
            Command::Suspend(selector)
        });
        assert_eq!(world.refused(admit("2", "sn1")), RegistryError::Barred(name("sn1")));
        world.must(admit("3", "sn2"));
        let until = Some(Wall(world.now.0 + 1000));
        world.must(Command::ApproveThing { thing: name("sn1"), until });
        world.must(admit("2", "sn1"));
        let thing = world.registry.thing("sn1").unwrap();
        assert!(!thing.barred && thing.approved_until.is_none(), "the approval is used up");
    }
}

#[test]
fn an_unknown_certificate_waits_for_its_activation_under_jitr() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Jitr);
    world.must(admit("1", "sn1"));
    let id = certificate("maker", "1").facts().id;
    let ca = world.ca("maker").id;
    assert_eq!(world.standing("maker", "1"), Standing::Pending { ca: Some(ca), until: None });
    assert_eq!(world.effects.waiting, [(ca, id)]);
    assert!(world.registry.thing("sn1").is_none(), "no thing before the activation");
    world.pass(365 * DAY_SECS / 20);
    assert!(world.must(Command::ExpirePending { at_most: 10 }).is_empty());
    world.must(Command::Activate(Selector::Certificate(id)));
    assert!(world.is_active(&id));
    assert_eq!(world.registry.thing("sn1").unwrap().certificates(), [id]);
}

#[test]
fn an_authority_that_names_its_devices_takes_none_from_another() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Auto);
    world.issue("broker's", "sn1").unwrap();
    let taken = RegistryError::AlreadyProvisioned(name("sn1"));
    assert_eq!(world.refused(admit("1", "sn1")), taken);
    // Its own device comes with another certificate, and one that was only announced is its own from then on.
    world.must(admit("2", "sn2"));
    world.must(admit("3", "sn2"));
    world.must(Command::AddThing(thing("sn3")));
    world.must(admit("4", "sn3"));
    // With the operator's word, while it holds.
    let until = Some(world.now.after(std::time::Duration::from_secs(60)));
    world.must(Command::ApproveThing { thing: name("sn1"), until });
    world.must(admit("1", "sn1"));
    world.pass(61);
    assert_eq!(world.refused(admit("5", "sn1")), taken);
    // Or because it was said.
    let reason = RevocationReason::Superseded;
    world.must(Command::Revoke {
        selector: Selector::Certificate(certificate("maker", "1").facts().id),
        reason,
    });
    let ca = world.ca("maker");
    world.must(Command::UpdateCa { ca: ca.id, settings: CaSettings { joins_others: true, ..ca.settings } });
    world.must(admit("5", "sn1"));
}

#[test]
fn a_device_of_two_outside_authorities_stays_the_firsts() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Auto);
    let shares_names_with = vec![world.ca("maker").id, world.ca("own").id];
    let other = CaSettings {
        registers: true,
        unknown: UnknownPolicy::Auto,
        shares_names_with,
        ..CaSettings::registered_only(patterns(&["sn*"]))
    };
    world.add_ca("other", Source::Outside, other).unwrap();
    world.must(admit("1", "sn1"));
    let theirs = certificate("other", "2");
    let taken = RegistryError::AlreadyProvisioned(name("sn1"));
    let command = Command::AdmitUnknown { certificate: theirs, name: name("sn1") };
    assert_eq!(world.refused(command), taken);
    // Also when nothing of the first is left but that it was there.
    world.pass(31 * DAY_SECS);
    world.must(Command::PurgeExpired { before: world.now, at_most: 10 });
    assert!(world.registry.thing("sn1").unwrap().certificates().is_empty());
    let late = testing::certificate(key("other"), "3", key("3"), world.now.unix_secs(), DAY_SECS);
    let command = Command::AdmitUnknown { certificate: late, name: name("sn1") };
    assert_eq!(world.refused(command), taken);
}

#[test]
fn an_authority_brings_in_as_many_devices_as_it_may_and_their_next_certificates() {
    for jitp in [false, true] {
        let mut world = World::new();
        world.set_policy(if jitp { UnknownPolicy::Jitp(template_name("jitp")) } else { UnknownPolicy::Auto });
        let ca = world.ca("maker");
        let settings = CaSettings { devices_max: Some(2), ..ca.settings.clone() };
        world.must(Command::UpdateCa { ca: ca.id, settings: settings.clone() });
        let bring = |label: &str, holder: &str| match jitp {
            true => provision(label, "jitp", holder, IfExists::Keep),
            false => admit(label, holder),
        };
        world.must(bring("1", "sn1"));
        world.must(bring("2", "sn2"));
        let spent = RegistryError::CaSpent { ca: ca.id, what: "devices", max: 2 };
        assert_eq!(world.refused(bring("3", "sn3")), spent);
        assert_eq!((spent.fault(), world.ca("maker").devices), (Fault::Exhausted, 2));
        assert!(world.registry.thing("sn3").is_none());
        // A device that is in gets its next certificate, for the key that it has.
        let certificate = certificate_with_key("maker", "1 again", "1");
        let (thing, name) = (thing("sn1"), name("sn1"));
        let (template, if_exists, enter) = (template_name("jitp"), IfExists::Keep, Enter::Active);
        world.must(match jitp {
            true => Command::ProvisionJustInTime { certificate, template, thing, if_exists, enter },
            false => Command::AdmitUnknown { certificate, name },
        });
        assert_eq!(world.ca("maker").devices, 2);
        let settings = CaSettings { devices_max: Some(3), ..settings };
        world.must(Command::UpdateCa { ca: ca.id, settings });
        world.must(bring("3", "sn3"));
    }
}

#[test]
fn certificates_that_wait_for_an_operator_hold_up_nobody_who_enrols() {
    let mut world = World::new();
    world.registry.set_limits(Limits { pending_max: 1, waiting_per_ca_max: 3, ..Limits::default() });
    world.set_policy(UnknownPolicy::Jitr);
    for n in 1..=3 {
        world.must(admit(&format!("{n}"), &format!("sn{n}")));
    }
    let maker = world.ca("maker");
    let what = "certificates that wait to be activated";
    let spent = RegistryError::CaSpent { ca: maker.id, what, max: 3 };
    assert_eq!(world.refused(admit("4", "sn4")), spent);
    let claim = world.add_claim("line-1", |_| {});
    world.begin("5", claim).unwrap();
    let full = RegistryError::Full { what: "pending certificates", max: 1 };
    assert_eq!(world.begin("6", claim), Err(full));
    // What waits by invitation leaves the authority its own places.
    let first = certificate("maker", "1").facts().id;
    world.must(Command::Activate(Selector::Certificate(first)));
    world.must(admit("4", "sn4"));
    world.must(Command::DeleteCertificate(certificate("maker", "2").facts().id));
    assert_eq!(world.registry.waiting_of(&maker.key), 2);
    let again = Registry::replay(world.registry.limits().clone(), &world.events);
    assert_eq!(again, world.registry);
}

#[test]
fn a_waiting_certificate_is_bound_elsewhere_or_deleted_by_an_operator() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Jitr);
    let [one, two] = ["1", "2"].map(|label| {
        world.must(admit(label, "sn1"));
        certificate("maker", label).facts().id
    });
    let bind = |certificate, holder| Command::BindCertificate { certificate, holder: device(holder) };
    assert!(matches!(world.refused(bind(one, "gate")), RegistryError::NameNotAllowed { .. }));
    world.must(bind(one, "sn9"));
    let bound = RegistryError::Bound { certificate: one, holder: device("sn9") };
    assert_eq!(world.refused(bind(one, "sn8")), bound);
    assert!(!world.is_active(&one));
    world.must(Command::Activate(Selector::thing(name("sn9"))));
    assert!(world.is_active(&one));
    world.must(Command::DeleteCertificate(two));
    assert_eq!(world.status(&two), None);
    assert!(world.registry.thing("sn1").is_none());
}

#[test]
fn a_template_provisions_just_in_time_what_its_authority_signed() {
    let mut world = World::new();
    let maker = world.ca("maker").id;
    let not = RegistryError::NotAdmitted(maker);
    assert_eq!(world.refused(provision("1", "jitp", "sn1", IfExists::Refuse)), not);
    world.set_policy(UnknownPolicy::Jitp(template_name("jitp")));
    assert_eq!(world.refused(provision("1", "fleet", "sn1", IfExists::Refuse)), not);
    assert_eq!(world.refused(admit("1", "sn1")), not);
    let elsewhere = world.refused(provision("1", "jitp", "gate", IfExists::Refuse));
    assert!(matches!(elsewhere, RegistryError::NameNotAllowed { .. }));
    world.must(provision("1", "jitp", "sn1", IfExists::Refuse));
    assert!(matches!(world.standing("maker", "1"), Standing::Active(_)));
    // One that was only added may be kept; one that has a certificate is not taken over with another key.
    world.must(Command::AddThing(ThingSpec::named(name("sn3"))));
    let exists = RegistryError::ThingExists(name("sn3"));
    assert_eq!(world.refused(provision("3", "jitp", "sn3", IfExists::Refuse)), exists);
    world.must(provision("3", "jitp", "sn3", IfExists::Keep));
    let taken = RegistryError::AlreadyProvisioned(name("sn1"));
    assert_eq!(world.refused(provision("2", "jitp", "sn1", IfExists::Keep)), taken);
    let until = Some(world.now.after(std::time::Duration::from_secs(60)));
    world.must(Command::ApproveThing { thing: name("sn1"), until });
    world.must(provision("2", "jitp", "sn1", IfExists::Keep));
}

#[test]
fn an_authority_is_removed_when_nothing_is_left_of_it_and_a_revoked_one_when_it_is_expired() {
    let mut world = World::new();
    world.issue("1", "a").unwrap();
    let [own, maker] = ["own", "maker"].map(|label| world.ca(label).id);
    assert_eq!(world.refused(Command::DeleteCa(own)), RegistryError::CaInUse(own));
    world.must(Command::Revoke { selector: Selector::Ca(maker), reason: RevocationReason::CaCompromise });
    assert_eq!(world.refused(Command::DeleteCa(maker)), RegistryError::CaRevoked(maker));
    world.pass(31 * DAY_SECS);
    world.must(Command::DeleteCa(maker));
    assert!(world.effects.trust_changed);
    assert_eq!(world.refused(Command::DeleteCa(maker)), RegistryError::NoCa(maker));
}

#[test]
fn an_outside_certificate_is_registered_and_not_issued() {
    let mut world = World::new();
    let maker = world.ca("maker").id;
    let issue = Command::Issue { certificate: certificate("maker", "1"), holder: device("sn1") };
    assert_eq!(world.refused(issue), RegistryError::CaKind(maker));
    let register = |issuer, holder: PrincipalKey| Command::RegisterCertificate {
        certificate: certificate(issuer, "1"),
        holder,
        enter: Enter::Inactive,
    };
    assert_eq!(world.refused(register("nobody", device("sn1"))), RegistryError::NoIssuer);
    let operator = PrincipalKey { role: Role::Operator, name: name("sn1") };
    assert!(matches!(world.refused(register("maker", operator)), RegistryError::NameNotAllowed { .. }));
    world.must(register("maker", device("sn1")));
    assert_eq!(world.standing("maker", "1"), Standing::Inactive(Suspended::Certificate));
}
