//! What templates give.

use super::*;

fn groups(provisioned: &Provisioned) -> Vec<&str> {
    provisioned.thing.groups.as_slice().iter().map(GroupName::as_str).collect()
}

fn issued() -> CertificateParameters {
    CertificateParameters::issued(id())
}

#[test]
fn the_published_fleet_template_gives_its_thing() {
    let template = fleet(FLEET);
    assert_eq!(template.warnings(), []);
    let provisioned = template.evaluate(&given(&[("SerialNumber", "0001")]), &issued()).unwrap();
    assert_eq!(provisioned.thing.name.as_str(), "fp_0001");
    assert_eq!(provisioned.thing.thing_type.as_ref().unwrap().0.as_str(), "SensorM1");
    assert_eq!(provisioned.thing.attributes.get("serialNumber"), Some("0001"));
    assert_eq!(provisioned.thing.attributes.get("version"), Some("v1"));
    assert_eq!(groups(&provisioned), ["all", "telemetry", "west"]);
    assert_eq!(provisioned.enter, Enter::Active);
    assert_eq!(provisioned.serial.as_deref(), Some("0001"));
    let configuration: Vec<_> =
        provisioned.device_configuration.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        configuration,
        [
            ("FallbackUrl", "https://example.org/"),
            ("LocationUrl", "https://seattle.example"),
            ("Topic", "devices/fp_0001/data ${kept}"),
        ]
    );
    // What is there already: attributes are merged, the type is replaced, groups stay, and the policy is joined.
    let join = crate::Groups::new(vec![GroupName::try_from("telemetry").unwrap()]).unwrap();
    assert_eq!(
        provisioned.if_exists,
        IfExists::Adjust(Overrides {
            replace_type: true,
            attributes: Override::Merge,
            groups: Override::Keep,
            join
        })
    );
}

#[test]
fn a_parameter_counts_before_its_default_and_a_missing_one_is_refused() {
    let template = fleet(FLEET);
    let oslo = given(&[("SerialNumber", "1"), ("DeviceLocation", "Oslo"), ("Unasked", "x")]);
    let provisioned = template.evaluate(&oslo, &issued()).unwrap();
    assert_eq!(provisioned.device_configuration.get("LocationUrl").unwrap(), "https://oslo.example");
    let refused = template.evaluate(&given(&[("DeviceLocation", "Oslo")]), &issued());
    assert_eq!(refused, Err(EvaluateError::MissingParameter { name: "SerialNumber".into() }));
    let refused =
        template.evaluate(&given(&[("SerialNumber", "1"), ("DeviceLocation", "Bergen")]), &issued());
    assert!(
        matches!(refused, Err(EvaluateError::FindInMap { at }) if at.contains("LocationUrl") || at.contains("ThingGroups"))
    );
}

#[test]
fn a_device_cannot_give_the_id_of_its_certificate() {
    let text = with(r#"{"ThingName": {"Ref": "AWS::IoT::Certificate::Id"}}"#, "{}");
    let sent = given(&[("P", "p"), ("AWS::IoT::Certificate::Id", "anothers")]);
    let provisioned = fleet(&text).evaluate(&sent, &issued()).unwrap();
    assert_eq!(provisioned.thing.name.as_str(), id().to_string());
}

#[test]
fn functions_give_what_aws_says() {
    for (expression, expected) in [
        (r#""plain""#, "plain"),
        (r#"{"Ref": "P"}"#, "a-b-c"),
        (r#"{"Ref": "Q"}"#, "q"),
        (r#"{"Fn::Join": [":", ["x", {"Ref": "P"}, "y"]]}"#, "x:a-b-c:y"),
        (r#"{"Fn::Join": ["", []]}"#, ""),
        (r#"{"Fn::Join": ["+", {"Fn::Split": ["-", {"Ref": "P"}]}]}"#, "a+b+c"),
        (r#"{"Fn::Sub": "${P}/${Q}$"}"#, "a-b-c/q$"),
        (r#"{"Fn::Sub": "${!P}"}"#, "${P}"),
        (r#"{"Fn::Sub": ["${own}-${Q}", {"own": {"Fn::Join": ["", ["1", {"Ref": "Q"}]]}}]}"#, "1q-q"),
        // A variable of its own hides a parameter, and is not substituted again.
        (r#"{"Fn::Sub": ["${Q}", {"Q": "${P}"}]}"#, "${P}"),
        (r#"{"Fn::Select": ["1", {"Fn::Split": ["-", {"Ref": "P"}]}]}"#, "b"),
        (r#"{"Fn::Select": [2, ["x", "y", {"Ref": "Q"}]]}"#, "q"),
        (r#"{"Fn::FindInMap": ["M", {"Fn::Select": ["0", {"Fn::Split": ["-", {"Ref": "P"}]}]}, "y"]}"#, "ay"),
    ] {
        assert_eq!(value(expression, "a-b-c").as_deref(), Ok(expected), "{expression}");
    }
}

#[test]
fn functions_refuse_what_they_cannot_give() {
    let at: Box<str> = "$.DeviceConfiguration.v".into();
    for (expression, p, error) in [
        (
            r#"{"Fn::Select": ["1", {"Fn::Split": ["-", {"Ref": "P"}]}]}"#,
            "nodash",
            EvaluateError::Select { at: at.clone() },
        ),
        (r#"{"Fn::Select": [{"Ref": "P"}, ["x"]]}"#, "-1", EvaluateError::Select { at: at.clone() }),
        (r#"{"Fn::Select": [{"Ref": "P"}, ["x"]]}"#, "null", EvaluateError::Select { at: at.clone() }),
        (r#"{"Fn::FindInMap": ["M", {"Ref": "P"}, "y"]}"#, "b", EvaluateError::FindInMap { at: at.clone() }),
        (
            r#"{"Fn::Join": ["", {"Fn::Split": [{"Ref": "P"}, "x"]}]}"#,
            "",
            EvaluateError::Split { at: at.clone() },
        ),
        (
            r#"{"Fn::Sub": "${P}${P}${P}"}"#,
            &"x".repeat(PARAMETER_VALUE_BYTES_MAX),
            EvaluateError::TextTooLong { at },
        ),
    ] {
        assert_eq!(value(expression, p), Err(error), "{expression}");
    }
}

#[test]
fn nested_substitutions_cannot_grow_without_bound() {
    // Each level has its text ten times; unbounded, eight levels would be 100 MB.
    let mut expression = r#"{"Ref": "P"}"#.to_owned();
    for _ in 0..8 {
        let ten = "${v}".repeat(10);
        expression = format!(r#"{{"Fn::Sub": ["{ten}", {{"v": {expression}}}]}}"#);
    }
    assert!(matches!(value(&expression, "x"), Err(EvaluateError::TextTooLong { .. })));
    assert_eq!(value(&expression, "").as_deref(), Ok(""));
}

#[test]
fn what_would_be_no_name_is_refused() {
    let template = fleet(&with_thing(r#"{"ThingName": {"Fn::Sub": "s-${P}"}}"#));
    let named = |p: &str| template.evaluate(&given(&[("P", p)]), &issued());
    assert_eq!(named("1").unwrap().thing.name.as_str(), "s-1");
    for odd in ["a/b", "+", "#", "$x", "a b", "%u", "é", "a\u{202e}b", "\u{200b}"] {
        let refused = named(odd).unwrap_err();
        assert!(
            matches!(refused, EvaluateError::ThingName(_) | EvaluateError::ParameterControl { .. }),
            "{odd:?}: {refused}"
        );
    }
    for control in ["\0", "a\nb", "\u{7f}", "\u{85}", "\u{2028}", "\u{202e}"] {
        assert_eq!(named(control), Err(EvaluateError::ParameterControl { name: "P".into() }), "{control:?}");
    }
    let long = named(&"x".repeat(65)).unwrap_err();
    assert_eq!(long, EvaluateError::ThingName(NameError::TooLong { len: 67, max: 64 }));
    let bare = fleet(&with_thing(r#"{"ThingName": {"Ref": "P"}}"#));
    let empty = bare.evaluate(&given(&[("P", "")]), &issued());
    assert_eq!(empty, Err(EvaluateError::ThingName(NameError::Empty)));
}

#[test]
fn a_wider_rule_of_names_counts_for_things() {
    let template = fleet(&with_thing(r#"{"ThingName": {"Ref": "P"}}"#));
    let sent = given(&[("P", "a@b")]);
    assert!(template.evaluate(&sent, &issued()).is_err());
    let wide = signet_identity::NameRule::new(64, "@").unwrap();
    assert_eq!(template.evaluate_with(&sent, &issued(), &wide).unwrap().thing.name.as_str(), "a@b");
}

#[test]
fn groups_types_and_attributes_keep_to_their_grammar() {
    let properties = r#"{"ThingName": "n", "ThingGroups": [{"Ref": "P"}]}"#;
    let template = fleet(&with_thing(properties));
    let with_p = |template: &TemplateBody, p: &str| template.evaluate(&given(&[("P", p)]), &issued());
    assert_eq!(groups(&with_p(&template, "west").unwrap()), ["west"]);
    for odd in ["a/b", "+", "#", "", "operator", "Claim", "DEVICE"] {
        assert!(matches!(with_p(&template, odd), Err(EvaluateError::Group { .. })), "{odd:?}");
    }
    let typed = fleet(&with_thing(r#"{"ThingName": "n", "ThingTypeName": {"Ref": "P"}}"#));
    assert!(matches!(with_p(&typed, "a#"), Err(EvaluateError::ThingType(_))));
    let attribute = fleet(&with_thing(r#"{"ThingName": "n", "AttributePayload": {"k": {"Ref": "P"}}}"#));
    assert_eq!(with_p(&attribute, "a:b@c/d#").unwrap().thing.attributes.get("k"), Some("a:b@c/d#"));
    for odd in ["+", "$", "a b", "ü"] {
        assert!(matches!(with_p(&attribute, odd), Err(EvaluateError::Thing(_))), "{odd:?}");
    }
}

#[test]
fn what_a_device_sends_is_bounded_even_when_nobody_asks_for_it() {
    let template = fleet(&with_thing(r#"{"ThingName": "n"}"#));
    let many: BTreeMap<_, _> = (0..=PARAMETERS_MAX).map(|n| (format!("k{n}"), String::new())).collect();
    assert_eq!(template.evaluate(&many, &issued()), Err(EvaluateError::TooManyParameters));
    let long_name = given(&[("P", "p"), (&"k".repeat(PARAMETER_NAME_BYTES_MAX + 1), "")]);
    assert_eq!(template.evaluate(&long_name, &issued()), Err(EvaluateError::ParameterTooLong));
    let long_value = given(&[("P", "p"), ("k", &"v".repeat(PARAMETER_VALUE_BYTES_MAX + 1))]);
    assert_eq!(template.evaluate(&long_value, &issued()), Err(EvaluateError::ParameterTooLong));
    let fits = given(&[("P", "p"), ("k", &"v".repeat(PARAMETER_VALUE_BYTES_MAX))]);
    assert!(template.evaluate(&fits, &issued()).is_ok());
}

#[test]
fn the_device_configuration_is_bounded() {
    let values: Vec<_> = (0..12).map(|n| format!(r#""k{n}": {{"Ref": "P"}}"#)).collect();
    let template = fleet(&with(r#"{"ThingName": "n"}"#, &format!("{{{}}}", values.join(","))));
    let refused = template.evaluate(&given(&[("P", &"x".repeat(800))]), &issued());
    assert_eq!(refused, Err(EvaluateError::DeviceConfigurationTooLong));
    assert!(template.evaluate(&given(&[("P", &"x".repeat(500))]), &issued()).is_ok());
}

#[test]
fn a_status_is_read_in_any_case_and_can_come_of_a_parameter() {
    let text = |status: &str| FLEET.replace("\"Status\": \"Active\"", &format!("\"Status\": {status}"));
    for (status, enter) in
        [("\"ACTIVE\"", Enter::Active), ("\"Inactive\"", Enter::Inactive), ("\"iNACTIVE\"", Enter::Inactive)]
    {
        let provisioned = fleet(&text(status)).evaluate(&given(&[("SerialNumber", "1")]), &issued());
        assert_eq!(provisioned.unwrap().enter, enter, "{status}");
    }
    let by_parameter = fleet(&text(r#"{"Ref": "SerialNumber"}"#));
    let refused = by_parameter.evaluate(&given(&[("SerialNumber", "PENDING_ACTIVATION")]), &issued());
    assert_eq!(refused, Err(EvaluateError::Status));
}

#[test]
fn override_settings_say_what_becomes_of_an_existing_thing() {
    let if_exists = |settings: &str| {
        let text = with_thing(r#"{"ThingName": "n"}"#).replace(
            r#""Properties": {"ThingName": "n"}"#,
            &format!(r#""Properties": {{"ThingName": "n"}}, "OverrideSettings": {settings}"#),
        );
        fleet(&text).evaluate(&given(&[("P", "p")]), &issued()).unwrap().if_exists
    };
    assert_eq!(if_exists("{}"), IfExists::Keep);
    assert_eq!(if_exists(r#"{"ThingGroups": "DO_NOTHING"}"#), IfExists::Keep);
    assert_eq!(if_exists(r#"{"ThingGroups": "MERGE", "AttributePayload": "FAIL"}"#), IfExists::Refuse);
    let all = r#"{"ThingGroups": "REPLACE", "AttributePayload": "REPLACE", "ThingTypeName": "REPLACE"}"#;
    assert_eq!(if_exists(all), IfExists::Replace);
    assert_eq!(
        if_exists(r#"{"THING_GROUPS": "MERGE"}"#),
        IfExists::Adjust(Overrides {
            replace_type: false,
            attributes: Override::Keep,
            groups: Override::Merge,
            join: crate::Groups::default()
        })
    );
}

#[test]
fn only_allowed_values_are_taken() {
    let text = with_thing(r#"{"ThingName": {"Ref": "P"}, "ThingGroups": [{"Ref": "P"}]}"#).replace(
        r#""P": {"Type": "String"}"#,
        r#""P": {"Type": "String", "AllowedValues": ["east", "west"]}"#,
    );
    let template = fleet(&text);
    assert_eq!(template.warnings(), []);
    assert!(template.evaluate(&given(&[("P", "east")]), &issued()).is_ok());
    let refused = template.evaluate(&given(&[("P", "admins")]), &issued());
    assert_eq!(refused, Err(EvaluateError::ParameterNotAllowed { name: "P".into() }));
}

#[test]
fn a_rotation_is_about_the_callers_own_thing_and_changes_no_groups() {
    let template = TemplateBody::parse(TemplateKind::Rotation, FLEET).unwrap();
    assert_eq!(template.warnings().len(), 2, "groups and policies have no effect: {:?}", template.warnings());
    let own = crate::tests::name("mine");
    let sent = given(&[("SerialNumber", "others")]);
    let provisioned = template.evaluate(&sent, &CertificateParameters::renewed(id(), own)).unwrap();
    assert_eq!(provisioned.thing.name.as_str(), "mine");
    assert_eq!(groups(&provisioned), [""; 0]);
    let IfExists::Adjust(overrides) = provisioned.if_exists else { panic!("attributes are merged") };
    assert_eq!((overrides.groups, overrides.join.as_slice()), (Override::Keep, &[][..]));
    assert_eq!(template.evaluate(&sent, &issued()), Err(EvaluateError::NoOwnThing));
}

#[test]
fn a_rotation_needs_no_name_and_no_parameters() {
    let text = r#"{"Resources": {
        "thing": {"Type": "AWS::IoT::Thing"},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}}}}"#;
    let template = TemplateBody::parse(TemplateKind::Rotation, text).unwrap();
    let own = CertificateParameters::renewed(id(), crate::tests::name("mine"));
    let provisioned = template.evaluate(&BTreeMap::new(), &own).unwrap();
    assert_eq!((provisioned.thing.name.as_str(), provisioned.if_exists), ("mine", IfExists::Keep));
    assert_eq!(wrong(TemplateKind::Fleet, text)[0].1, "the thing has no ThingName");
}

#[test]
fn a_certificate_id_that_is_made_up_is_refused() {
    let text = FLEET.replace(
        r#""CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}"#,
        r#""CertificateId": {"Fn::Sub": "${AWS::IoT::Certificate::Id}${SerialNumber}"}"#,
    );
    let template = fleet(&text);
    let refused = template.evaluate(&given(&[("SerialNumber", "1")]), &issued());
    assert_eq!(refused, Err(EvaluateError::OtherCertificate(id())));
}

#[test]
fn the_shipped_templates_are_good() {
    let sent = given(&[("SerialNumber", "0001")]);
    let shipped = fleet(include_str!("../../../../../config/templates/fleet.json"));
    assert_eq!(shipped.warnings(), []);
    let provisioned = shipped.evaluate(&sent, &issued()).unwrap();
    assert_eq!(provisioned.thing.name.as_str(), "sensor-0001");
    assert_eq!(provisioned.thing.attributes.get("location"), Some("unknown"));
    let text = include_str!("../../../../../config/templates/rotation.json");
    let rotation = TemplateBody::parse(TemplateKind::Rotation, text).unwrap();
    assert_eq!(rotation.warnings(), []);
    let own = CertificateParameters::renewed(id(), crate::tests::name("mine"));
    assert_eq!(rotation.evaluate(&sent, &own).unwrap().if_exists, IfExists::Keep);
    let text = include_str!("../../../../../config/templates/jitp.json");
    assert_eq!(TemplateBody::parse(TemplateKind::Jitp, text).unwrap().warnings(), []);
}

#[test]
fn a_serial_number_counts_for_a_claims_list_only_where_it_alone_makes_the_name() {
    let serial_of = |name: &str| {
        let text = format!(
            r#"{{"Parameters": {{"SerialNumber": {{"Type": "String"}}, "Line": {{"Type": "String"}}}},
                "Mappings": {{"Lines": {{"a": {{"Code": "1"}}, "b": {{"Code": "2"}}}}}},
                "Resources": {{"thing": {{"Type": "AWS::IoT::Thing", "Properties": {{"ThingName": {name}}}}},
                  "certificate": {{"Type": "AWS::IoT::Certificate",
                    "Properties": {{"CertificateId": {{"Ref": "AWS::IoT::Certificate::Id"}}, "Status": "ACTIVE"}}}}}}}}"#
        );
        let text = text.replace(
            r#""Line": {"Type": "String"}}"#,
            r#""Line": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}}"#,
        );
        let body = TemplateBody::parse(TemplateKind::Fleet, &text).unwrap();
        let sent = [("SerialNumber", "0001"), ("Line", "a")];
        let sent = sent.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        body.evaluate(&sent, &CertificateParameters::issued(CertificateId::of(b"x"))).unwrap().serial
    };
    assert_eq!(serial_of(r#"{"Ref": "SerialNumber"}"#).as_deref(), Some("0001"));
    assert_eq!(serial_of(r#"{"Fn::Sub": "sensor-${SerialNumber}"}"#).as_deref(), Some("0001"));
    for free in [
        r#"{"Ref": "Line"}"#,
        r#"{"Fn::Sub": "${Line}_${SerialNumber}"}"#,
        r#"{"Fn::Join": ["-", [{"Fn::FindInMap": ["Lines", {"Ref": "Line"}, "Code"]}, {"Ref": "SerialNumber"}]]}"#,
    ] {
        assert_eq!(serial_of(free), None, "{free}");
    }
}
