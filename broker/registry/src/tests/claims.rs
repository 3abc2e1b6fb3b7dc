//! Claims and templates themselves.

use super::*;

#[test]
fn a_claim_connects_as_a_claim_with_its_templates() {
    let mut world = World::new();
    let id = world.add_claim("line-1", |_| {});
    let Standing::Active(active) =
        world.registry.standing_of(world.registry.certificate(&id).unwrap(), world.now)
    else {
        panic!("it should be active")
    };
    assert_eq!(active.holder.role, Role::Claim);
    assert_eq!((active.thing(), active.groups()), (None, &[][..]));
    assert_eq!(active.templates(), [template_name("fleet")]);
}

#[test]
fn a_claim_is_made_once_with_templates_that_exist() {
    let mut world = World::new();
    world.add_claim("line-1", |_| {});
    let known = ClaimSpec::clone(&world.registry.claim("line-1").unwrap().spec);
    let create = |claim: ClaimSpec| Command::CreateClaim { claim, certificate: certificate("own", "x") };
    assert_eq!(world.refused(create(known.clone())), RegistryError::ClaimExists(name("line-1")));
    let other = |templates: &[&str]| ClaimSpec {
        name: name("line-2"),
        templates: templates.iter().map(|name| template_name(name)).collect(),
        ..known.clone()
    };
    assert_eq!(world.refused(create(other(&[]))), RegistryError::Empty("templates"));
    assert_eq!(world.refused(create(other(&["none"]))), RegistryError::NoTemplate(template_name("none")));
    assert_eq!(
        world.refused(create(other(&["jitp"]))),
        RegistryError::TemplateNotAllowed(template_name("jitp"))
    );
    assert!(matches!(world.refused(create(other(&["fleet"; 33]))), RegistryError::Full { .. }));
    let over = ClaimSpec { until: Some(START), ..other(&["fleet"]) };
    assert_eq!(world.refused(create(over)), RegistryError::DeadlinePassed(START));
    world.must(create(other(&["fleet"])));
    assert_eq!(world.refused(Command::UpdateClaim(ClaimSpec { name: name("line-3"), ..known.clone() })), {
        RegistryError::NoClaim(name("line-3"))
    });
    assert!(world.must(Command::UpdateClaim(known)).is_empty());
}

#[test]
fn a_template_is_versioned_and_stays_while_it_is_needed() {
    let mut world = World::new();
    let fleet = world.registry.template("fleet").unwrap().spec.clone();
    assert!(world.must(Command::SetTemplate(fleet.clone())).is_empty());
    let changed = TemplateSpec { body: "{ }".into(), ..fleet.clone() };
    world.must(Command::SetTemplate(changed));
    assert_eq!(world.registry.template("fleet").unwrap().version, 2);
    let long = TemplateSpec { body: "x".repeat(TEMPLATE_BODY_BYTES_MAX + 1).into(), ..fleet.clone() };
    assert!(matches!(world.refused(Command::SetTemplate(long)), RegistryError::Full { .. }));
    world.add_claim("line-1", |_| {});
    world.set_policy(UnknownPolicy::Jitp(template_name("jitp")));
    for used in ["fleet", "jitp"] {
        let in_use = RegistryError::TemplateInUse(template_name(used));
        assert_eq!(world.refused(Command::DeleteTemplate(template_name(used))), in_use);
        let spec = world.registry.template(used).unwrap().spec.clone();
        let other = TemplateSpec { kind: TemplateKind::Rotation, ..spec };
        assert_eq!(world.refused(Command::SetTemplate(other)), in_use);
    }
    world.must(Command::DeleteTemplate(template_name("rotation")));
    let none = RegistryError::NoTemplate(template_name("rotation"));
    assert_eq!(world.refused(Command::DeleteTemplate(template_name("rotation"))), none);
}

#[test]
fn a_disabled_template_is_not_used() {
    let mut world = World::new();
    world.set_policy(UnknownPolicy::Jitp(template_name("jitp")));
    let spec = world.registry.template("jitp").unwrap().spec.clone();
    world.must(Command::SetTemplate(TemplateSpec { enabled: false, ..spec }));
    let provision = Command::ProvisionJustInTime {
        certificate: certificate("maker", "1"),
        template: template_name("jitp"),
        thing: thing("sn1"),
        if_exists: IfExists::Refuse,
        enter: Enter::Active,
    };
    assert_eq!(world.refused(provision), RegistryError::TemplateNotAllowed(template_name("jitp")));
}
