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
