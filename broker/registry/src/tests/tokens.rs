//! One-time tokens whose answers got lost.

use super::enrol::{token_spec, use_token};
use super::*;

impl World {
    /// Makes the token `text` for `holder` and uses it for the certificate `label`, when these have never connected.
    fn by_token(
        &mut self,
        text: &str,
        holder: &str,
        never_connected: &[CertificateId],
    ) -> Result<CertificateId, RegistryError> {
        self.must(Command::CreateToken(token_spec(text, holder)));
        let Command::UseToken { token, certificate, .. } = use_token(text, text) else {
            panic!("it uses a token")
        };
        let id = certificate.facts().id;
        let may = IssueFor::Token { token: &token, never_connected };
        let may = self.registry.may_issue(may, &certificate.facts().public_key, self.now);
        let never_connected = never_connected.to_vec();
        let used = self.run(Command::UseToken { token, certificate, never_connected });
        assert_eq!(may.is_ok(), used.is_ok(), "nothing is signed for nothing");
        used.map(|_| id)
    }
}

#[test]
fn a_device_that_lost_every_answer_gets_in_with_its_next_token() {
    let mut world = World::new();
    let mut lost = Vec::new();
    for n in 0..10 {
        let id = world.by_token(&format!("t{n}"), "a", &lost).unwrap();
        assert!(world.is_active(&id));
        lost.push(id);
    }
    let in_force = lost.iter().filter(|id| world.is_active(id)).count();
    assert_eq!(in_force, 2, "no more go than are in the way, the oldest first");
    assert!(world.is_active(&lost[8]));
}

#[test]
fn what_has_connected_gives_way_to_no_token() {
    let mut world = World::new();
    let first = world.by_token("t1", "a", &[]).unwrap();
    let lost = world.by_token("t2", "a", &[]).unwrap();
    let second = world.by_token("t3", "a", &[lost]).unwrap();
    assert!(world.is_active(&first) && world.is_active(&second) && !world.is_active(&lost));
    let full = RegistryError::TooManyActive { holder: device("a"), max: ACTIVE_MAX };
    assert_eq!(world.by_token("t4", "a", &[lost]), Err(full));
    assert!(world.registry.token(&super::enrol::token("t4")).unwrap().used.is_none());
}

#[test]
fn an_outside_certificate_that_an_operator_registered_gives_way_to_no_token() {
    let mut world = World::new();
    let ids = ["1", "2"].map(|label| {
        let certificate = certificate("maker", label);
        let id = certificate.facts().id;
        let holder = device("sn1");
        world.must(Command::RegisterCertificate { certificate, holder, enter: Enter::Active });
        id
    });
    let full = RegistryError::TooManyActive { holder: device("sn1"), max: ACTIVE_MAX };
    assert_eq!(world.by_token("t1", "sn1", &ids), Err(full));
}

#[test]
fn a_thing_has_a_token_until_the_last_one_is_gone() {
    let mut world = World::new();
    for text in ["t1", "t2"] {
        world.must(Command::CreateToken(token_spec(text, "b")));
    }
    let has = |world: &World, of: &str| world.registry.has_token(&name(of));
    assert!(has(&world, "b") && !has(&world, "a") && !has(&world, "ba") && !has(&world, "c"));
    world.must(Command::DeleteToken(super::enrol::token("t1")));
    assert!(has(&world, "b"));
    world.must(Command::DeleteToken(super::enrol::token("t2")));
    assert!(!has(&world, "b"));
}

#[test]
fn a_name_that_a_token_waits_for_is_not_taken_by_an_authority_that_names_its_devices() {
    let admit = |label: &str, of: &str| Command::AdmitUnknown {
        certificate: certificate("maker", label),
        name: name(of),
    };
    let provision = |label: &str, of: &str| Command::ProvisionJustInTime {
        certificate: certificate("maker", label),
        template: template_name("jitp"),
        thing: thing(of),
        if_exists: IfExists::Keep,
        enter: Enter::Active,
    };
    for jitp in [false, true] {
        let bring = |label: &str, of: &str| if jitp { provision(label, of) } else { admit(label, of) };
        let mut world = World::new();
        world.set_policy(if jitp { UnknownPolicy::Jitp(template_name("jitp")) } else { UnknownPolicy::Auto });
        world.must(bring("0", "sn0"));
        for of in ["sn0", "sn1", "sn2", "sn3"] {
            world.must(Command::CreateToken(token_spec(of, of)));
        }
        world.must(Command::AddThing(thing("sn2")));
        for of in ["sn1", "sn2"] {
            assert_eq!(world.refused(bring(of, of)), RegistryError::Awaited(name(of)));
        }
        world.must(bring("neighbour", "sn10"));
        // What the authority's device was before, it stays: the same key again.
        let certificate = certificate_with_key("maker", "0 again", "0");
        let again = match bring("0", "sn0") {
            Command::AdmitUnknown { name, .. } => Command::AdmitUnknown { certificate, name },
            Command::ProvisionJustInTime { template, thing, if_exists, enter, .. } => {
                Command::ProvisionJustInTime { certificate, template, thing, if_exists, enter }
            }
            other => panic!("{other:?}"),
        };
        world.must(again);
        // The device that was meant has come.
        world.must(use_token("sn1", "meant"));
        assert_eq!(world.refused(bring("1", "sn1")), RegistryError::AlreadyProvisioned(name("sn1")));
        // With the operator's word, and when nobody is waited for any more.
        let until = Some(world.now.after(std::time::Duration::from_secs(60)));
        world.must(Command::ApproveThing { thing: name("sn2"), until });
        world.must(bring("2", "sn2"));
        world.must(Command::DeleteToken(super::enrol::token("sn3")));
        world.must(bring("3", "sn3"));
    }
}

#[test]
fn a_token_gets_nobody_into_a_thing_that_became_another_authoritys_since_it_was_made() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Auto);
    world.must(Command::CreateToken(token_spec("before", "sn1")));
    world.must(Command::AddThing(thing("sn1")));
    let approve = |world: &World| {
        let until = Some(world.now.after(std::time::Duration::from_secs(60)));
        Command::ApproveThing { thing: name("sn1"), until }
    };
    world.must(approve(&world));
    world.pass(1);
    let first = certificate("maker", "1");
    world.must(Command::AdmitUnknown { certificate: first, name: name("sn1") });
    let taken = RegistryError::AlreadyProvisioned(name("sn1"));
    let hash = super::enrol::token("before");
    let may = IssueFor::Token { token: &hash, never_connected: &[] };
    assert_eq!(world.registry.may_issue(may, &key("2"), world.now), Err(taken.clone()));
    assert_eq!(world.refused(use_token("before", "2")), taken);
    // A token that was made since then means the thing as it is.
    world.pass(1);
    world.by_token("since", "sn1", &[]).unwrap();
    assert_eq!(world.refused(use_token("before", "3")), taken);
    // With the operator's word the old one is good again, for what room there is.
    world.must(approve(&world));
    let full = RegistryError::TooManyActive { holder: device("sn1"), max: ACTIVE_MAX };
    assert_eq!(world.refused(use_token("before", "3")), full);
}
