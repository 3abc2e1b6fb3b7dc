//! Bad input: each has its stated error, and leaves nothing behind but a row in the audit trail.

use serde_json::{Value, json};
use signet_registry::TemplateKind;
use signet_tests::build::{V5, V311};

use crate::device::{Asking, CSR, Created, FLEET, Format, KEYS, csr, csr_of, enrol, new_key};
use crate::factory::Factory;

/// Everything that a refused request must not change.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    things: usize,
    certificates: usize,
    pending: usize,
    active: usize,
    claim_devices: u32,
}

fn rows(factory: &Factory) -> Rows {
    let registry = factory.registry().snapshot();
    let counts = registry.counts();
    Rows {
        things: registry.things_count(),
        certificates: registry.certificates().count(),
        pending: counts.pending,
        active: counts.active,
        claim_devices: registry.claims().map(|claim| claim.devices).sum(),
    }
}

fn error(status: u64, code: &str) -> (u64, String) {
    (status, code.to_owned())
}

fn listening(factory: &Factory, claim: &crate::factory::Claim<'_>) -> Asking {
    let _ = factory;
    let mut asking = Asking::connect(&claim.door(), V5, "bad");
    for format in ["json", "cbor"] {
        for operation in [CSR, KEYS, FLEET] {
            asking.listen(&format!("{operation}/{format}"));
        }
    }
    asking
}

#[test]
fn a_payload_that_cannot_be_read_is_invalid_in_both_encodings() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = listening(&factory, &claim);
    let good = csr(&new_key());
    let whole = serde_json::to_string(&json!({"certificateSigningRequest": good})).unwrap();
    let nested = format!("{{\"certificateSigningRequest\":{}1{}}}", "[".repeat(60), "]".repeat(60));
    let twice = format!("{},{}", whole.trim_end_matches('}'), &whole[1..]);
    let before = rows(&factory);
    for payload in [
        "",
        "[]",
        "null",
        "{",
        "{}",
        &whole[..whole.len() - 1],
        &format!("{whole}x"),
        &format!("{whole}{whole}"),
        &format!("\u{feff}{whole}"),
        &twice,
        &nested,
        "{\"certificateSigningRequest\":7}",
        "{\"certificateSigningRequest\":[\"x\"]}",
        "{\"certificateSigningRequest\":null}",
        "{\"CertificateSigningRequest\":\"x\"}",
        &format!("{{\"certificateSigningRequest\":\"{}\"}}", "x".repeat(9000)),
    ] {
        let answer = asking.ask_raw(&format!("{CSR}/json"), payload.as_bytes(), Format::Json);
        assert_eq!(answer.rejected(), error(400, "InvalidPayload"), "{}", &payload[..payload.len().min(80)]);
    }
    let cbor = Format::Cbor.write(&json!({"certificateSigningRequest": good}));
    let tagged = [&[0xd9, 0xd9, 0xf7][..], &cbor].concat();
    let trailing = [&cbor[..], &[0]].concat();
    let mut bytes_for_text = cbor.clone();
    // The value's header: text of a two-byte length becomes bytes.
    let at =
        cbor.windows(5).position(|part| part == [b'e', b's', b't', 0x79, cbor[30]]).map_or(27, |at| at + 3);
    bytes_for_text[at] = 0x59;
    let duplicate = [&[0xa2][..], &cbor[1..], &cbor[1..]].concat();
    for payload in [
        &b""[..],
        &[0xff],
        &[0xa0],
        &[0x80],
        &cbor[..cbor.len() - 1],
        &tagged,
        &trailing,
        &bytes_for_text,
        &duplicate,
        &[0x9f; 4000],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x41; 9000],
    ] {
        let answer = asking.ask_raw(&format!("{CSR}/cbor"), payload, Format::Cbor);
        assert_eq!(
            answer.rejected(),
            error(400, "InvalidPayload"),
            "{:02x?}",
            &payload[..payload.len().min(20)]
        );
    }
    assert_eq!(rows(&factory), before);
    // The good one, with indefinite lengths, in another form of the same document.
    let text = good.as_bytes();
    let mut indefinite = vec![0xbf, 0x78, 25];
    indefinite.extend(b"certificateSigningRequest");
    indefinite.push(0x7f);
    for chunk in text.chunks(200) {
        indefinite.extend([0x78, u8::try_from(chunk.len()).unwrap()]);
        indefinite.extend(chunk);
    }
    indefinite.extend([0xff, 0xff]);
    let answer = asking.ask_raw(&format!("{CSR}/cbor"), &indefinite, Format::Cbor);
    Created::read(&answer.accepted());
}

#[test]
fn a_signing_request_that_asks_for_more_than_its_key_or_proves_nothing_is_refused() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = listening(&factory, &claim);
    let key = new_key();
    let good = csr(&key);
    let damaged = {
        let mut der = pem::parse(&good).unwrap().into_contents();
        let last = der.len() - 1;
        der[last] ^= 1;
        pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
    };
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::default();
        change(&mut params);
        params.serialize_request(&key).unwrap().pem().unwrap()
    };
    let authority = with(&|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let named = with(&|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("admin.example".try_into().unwrap())];
    });
    let server =
        with(&|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    let ed25519 = {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        csr(&key)
    };
    let of_the_authority = {
        let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(factory.issuing().key().to_vec());
        let key =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        csr(&key)
    };
    let before = rows(&factory);
    let mut tried = 0;
    for request in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        &good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        &format!("{good}{good}"),
        &good[..good.len() / 2],
        &damaged,
        &authority,
        &named,
        &server,
        &ed25519,
        &of_the_authority,
    ] {
        let answer = asking.ask(CSR, Format::Json, &json!({"certificateSigningRequest": request}));
        assert_eq!(answer.rejected(), error(400, "InvalidCertificateSigningRequest"), "{request}");
        tried += 1;
    }
    assert_eq!(rows(&factory), before);
    factory.until("a row in the audit trail", |factory| !factory.audit("refused").is_empty());
    assert!(factory.audit("refused").len() <= tried);
}

#[test]
fn the_subject_of_a_signing_request_is_nobodys_name() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    enrol(&claim.door(), &new_key(), "victim", Format::Json);
    let mut asking = listening(&factory, &claim);
    for name in ["fp_victim", "admin", "+", "#", "a/b", "line-1"] {
        let request = csr_of(&new_key(), name);
        let answer = asking.ask(CSR, Format::Json, &json!({"certificateSigningRequest": request}));
        let created = Created::read(&answer.accepted());
        let subject = signet_identity::describe(&created.der()).subject;
        assert!(subject.contains("unnamed-") && !subject.contains(name), "{subject}");
    }
}

#[test]
fn a_key_that_is_a_devices_is_nobody_elses() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let key = new_key();
    enrol(&claim.door(), &key, "first", Format::Json);
    let mut asking = listening(&factory, &claim);
    let before = rows(&factory);
    let answer = asking.ask(CSR, Format::Json, &json!({"certificateSigningRequest": csr(&key)}));
    // The device itself may come again; another serial number with its key may not.
    let token = match answer.accepted {
        true => Created::read(&answer.document).token,
        false => {
            assert_eq!(answer.rejected(), error(403, "AccessDenied"));
            return;
        }
    };
    assert_eq!(asking.register(&token, "second", Format::Json).rejected(), error(403, "AccessDenied"));
    assert_eq!(rows(&factory).things, before.things);
    assert_eq!(rows(&factory).active, before.active);
}

#[test]
fn a_token_counts_once_for_its_own_claim_and_connection_or_not_at_all() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let other = factory.claim("line-2");
    let mut asking = listening(&factory, &claim);
    let mut thief = listening(&factory, &other);
    let created = asking.create(&new_key(), Format::Json);
    let before = rows(&factory);
    let invalid = error(400, "InvalidCertificateOwnershipToken");
    for token in
        ["", "x", &"x".repeat(256), &"x".repeat(300), &created.token[1..], &format!("{}=", created.token)]
    {
        assert_eq!(asking.register(token, "s1", Format::Json).rejected(), invalid, "{token}");
        assert_eq!(asking.register(token, "s1", Format::Cbor).rejected(), invalid, "{token}");
    }
    let missing = asking.ask(FLEET, Format::Json, &json!({"parameters": {"SerialNumber": "s1"}}));
    assert_eq!(missing.rejected(), invalid);
    assert_eq!(
        thief.register(&created.token, "s1", Format::Json).rejected(),
        invalid,
        "somebody else's token"
    );
    assert_eq!(factory.metric("signet_provisioning_alarms_total{kind=\"foreign_token\"}"), 1.0);
    assert_eq!(rows(&factory), before);
    asking.register(&created.token, "s1", Format::Json).accepted();
    let after = rows(&factory);
    for serial in ["s1", "s2"] {
        assert_eq!(asking.register(&created.token, serial, Format::Json).rejected(), invalid, "replayed");
    }
    assert_eq!(rows(&factory), after);
    // Another connection of the same claim may show it: the certificate is what it is bound to.
    let created = asking.create(&new_key(), Format::Json);
    let mut again = listening(&factory, &claim);
    again.register(&created.token, "s3", Format::Json).accepted();
}

#[test]
fn a_parameter_never_becomes_a_name_that_reaches_further_than_one_level() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = listening(&factory, &claim);
    let created = asking.create(&new_key(), Format::Json);
    let before = rows(&factory);
    let long = "x".repeat(62);
    let longer = "x".repeat(900);
    for hostile in [
        "/",
        "a/b",
        "../x",
        "+",
        "#",
        "a+",
        "a#",
        "$SYS",
        "$",
        "%u",
        "%c",
        "%t",
        "a b",
        " ",
        "\u{0}",
        "a\u{0}",
        "a\nb",
        "\r\n",
        "\t",
        "\u{7f}",
        "\u{1b}[2J",
        "ä",
        "１",
        "\u{200b}",
        "\u{202e}x",
        "\u{feff}",
        "${x}",
        "{{x}}",
        "a\"b",
        "a\\b",
        "a'b",
        "<x>",
        "a;b",
        "a|b",
        "a&b",
        "a*b",
        "a?b",
        "a=b",
        "a,b",
        "a@b",
        "a~b",
        "a^b",
        "a`b",
        "(a)",
        "[a]",
        "{a}",
        "a!",
        "ÿ",
        "\u{1F600}",
        &long,
        &longer,
    ] {
        let answer = asking.register(&created.token, hostile, Format::Json);
        if answer.accepted {
            panic!("{hostile:?} became {}", answer.document);
        }
        assert_eq!(answer.rejected(), error(400, "InvalidParameters"), "{hostile:?}");
    }
    assert_eq!(rows(&factory), before);
    for name in std::fs::read_dir(factory.path("")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("fp_"), "a parameter became a file: {name}");
    }
}

#[test]
fn what_the_broker_says_of_the_certificate_a_device_cannot_say() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = listening(&factory, &claim);
    let victim = enrol(&claim.door(), &new_key(), "victim", Format::Json);
    let created = asking.create(&new_key(), Format::Json);
    let document = json!({"certificateOwnershipToken": created.token, "parameters": {
        "SerialNumber": "liar", "AWS::IoT::Certificate::Id": victim.id}});
    let answer = asking.ask(FLEET, Format::Json, &document);
    if answer.accepted {
        let thing = factory.registry().registry().thing("fp_liar").cloned().unwrap();
        let ids: Vec<String> = thing.certificates().iter().map(ToString::to_string).collect();
        assert_eq!(ids, [created.id]);
    } else {
        assert_eq!(answer.rejected(), error(400, "InvalidParameters"));
    }
    let victim_thing = factory.registry().registry().thing("fp_victim").cloned().unwrap();
    assert_eq!(victim_thing.certificates().len(), 1);
}

#[test]
fn parameters_of_the_wrong_type_or_not_enough_of_them_have_their_errors() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = listening(&factory, &claim);
    let created = asking.create(&new_key(), Format::Json);
    let before = rows(&factory);
    let ask = |asking: &mut Asking, parameters: Value| {
        let document = json!({"certificateOwnershipToken": created.token, "parameters": parameters});
        asking.ask(FLEET, Format::Json, &document).rejected()
    };
    for wrong in [
        json!([]),
        json!("x"),
        json!(7),
        json!(null),
        json!({"SerialNumber": 7}),
        json!({"SerialNumber": {"x": "y"}}),
    ] {
        assert_eq!(ask(&mut asking, wrong.clone()), error(400, "InvalidPayload"), "{wrong}");
    }
    assert_eq!(ask(&mut asking, json!({})), error(400, "InvalidParameters"));
    assert_eq!(ask(&mut asking, json!({"serialnumber": "x"})), error(400, "InvalidParameters"));
    assert_eq!(
        ask(&mut asking, json!({"SerialNumber": "x", "Location": "nowhere"})),
        error(400, "InvalidParameters")
    );
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("p{n}"), json!("x"))).collect();
    assert_eq!(ask(&mut asking, Value::Object(many)), error(400, "InvalidParameters"));
    assert_eq!(rows(&factory), before);
    asking.register(&created.token, "good", Format::Json).accepted();
}

#[test]
fn a_template_that_is_not_there_or_not_the_claims_is_not_evaluated() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    factory.template("other", TemplateKind::Fleet, crate::factory::FLEET);
    let mut asking = listening(&factory, &claim);
    let created = asking.create(&new_key(), Format::Json);
    let document = json!({"certificateOwnershipToken": created.token, "parameters": {"SerialNumber": "x"}});
    let payload = Format::Json.write(&document);
    for template in ["other", "renew", "none", "%template", "fleet/x"] {
        // Not even a request: the claim may not publish there.
        asking.client.publish(
            &format!("$aws/provisioning-templates/{template}/provision/json"),
            &payload,
            0x87,
        );
        asking.client.expect_nothing();
    }
    let spec = factory.registry().registry().template("fleet").unwrap().spec.clone();
    let disabled = signet_registry::TemplateSpec { enabled: false, ..spec.clone() };
    factory.execute(signet_registry::Command::SetTemplate(disabled)).unwrap();
    assert_eq!(asking.register(&created.token, "x", Format::Json).rejected(), error(403, "AccessDenied"));
    factory.execute(signet_registry::Command::SetTemplate(spec)).unwrap();
    asking.register(&created.token, "x", Format::Json).accepted();
}

#[test]
fn a_suspended_claim_is_cut_and_stays_out() {
    let factory = Factory::new();
    let claim = factory.claim("line-1");
    let mut asking = Asking::connect(&claim.door(), V5, "cut");
    asking.listen(&format!("{CSR}/json"));
    factory
        .execute(signet_registry::Command::SuspendClaim { claim: claim.name.clone(), suspended: true })
        .unwrap();
    while asking.client.receive_or_end().is_some() {}
    assert_eq!(crate::claim::refusal(&claim.door()), 0x87);
}

#[test]
fn a_claim_whose_requests_are_refused_again_and_again_is_an_alarm_and_then_suspended() {
    let factory = Factory::with("alarm-refusals = 5\nsuspend-claim-refusals = 8");
    let claim = factory.claim("leaked");
    let mut asking = Asking::connect(&claim.door(), V311, "x");
    asking.listen(&format!("{FLEET}/json"));
    for _ in 0..7 {
        asking.register("guess", "x", Format::Json).rejected();
    }
    assert_eq!(factory.metric("signet_provisioning_alarms_total{kind=\"refusals\"}"), 1.0);
    factory.until("the alarm is in the audit trail", |factory| !factory.audit("noted").is_empty());
    let id = asking.send(&format!("{FLEET}/json"), b"{}");
    let _ = id;
    factory.until("the claim is suspended", |factory| {
        factory.registry().registry().claim("leaked").is_some_and(|claim| claim.suspended)
    });
    assert_eq!(crate::claim::refusal(&claim.door()), 0x87);
}
