//! What is found when a template is stored.

use super::*;

#[test]
fn a_problem_has_its_place() {
    let text = "{\n  \"Parameters\": {},\n  \"Resources\": {\n    \"t\": {\"Type\": \"AWS::IoT::Thing\", \"Properties\": {\"ThingName\": {\"Ref\": \"Nö\"}}}\n  }\n}";
    let problems = TemplateBody::parse(TemplateKind::Fleet, text).unwrap_err();
    let reference = problems.iter().find(|problem| problem.what.contains("not declared")).unwrap();
    assert_eq!(reference.path, "$.Resources.t.Properties.ThingName.Ref");
    assert_eq!((reference.line, reference.column), (4, 74));
    assert_eq!(
        reference.to_string(),
        "4:74: $.Resources.t.Properties.ThingName.Ref: the parameter \"Nö\" is not declared; declare it in Parameters"
    );
    assert!(problems.iter().any(|problem| problem.what.contains("AWS::IoT::Certificate instead of 1")));
}

#[test]
fn each_thing_that_can_be_wrong_is_named() {
    let name = r#""ThingName": {"Ref": "P"}"#;
    let cases = [
        ("[]", "$", "this is a list, not an object"),
        ("{", "$", "this is not JSON"),
        ("{} {}", "$", "this is not JSON"),
        (r#"{"Resources": {"t": "\ud800"}}"#, "$.Resources.t", "this cannot be read"),
        ("{}", "$", "the section Resources is missing"),
        (r#"{"Resources": {}, "Outputs": {}}"#, "$.Outputs", "there is no section"),
        (r#"{"templateBody": "{}", "roleArn": "x"}"#, "$.templateBody", "wrapper"),
        (&with_thing(r#"{}"#), "$.Resources.t", "the thing has no ThingName"),
        (
            &with_thing(&format!(r#"{{{name}, "Name": "x"}}"#)),
            "$.Resources.t.Properties.Name",
            "there is no property",
        ),
        (&with_thing(&format!(r#"{{{name}, {name}}}"#)), "$.Resources.t.Properties", "is there twice"),
        (
            &with_thing(r#"{"ThingName": 7}"#),
            "$.Resources.t.Properties.ThingName",
            "this is a number, not a text",
        ),
        (&with_thing(r#"{"ThingName": null}"#), "$.Resources.t.Properties.ThingName", "this is null"),
        (&with_thing(r#"{"ThingName": {"Fn::GetAtt": "x"}}"#), "", "there is no function"),
        (
            &with_thing(r#"{"ThingName": {"Ref": "P", "Fn::Sub": ""}}"#),
            "",
            "an object with 2 members is no function",
        ),
        (
            &with_thing(r#"{"ThingName": {"Fn::Split": ["-", "a"]}}"#),
            "",
            "gives a list where a text is needed",
        ),
        (&with_thing(r#"{"ThingName": {"Fn::Join": ["-"]}}"#), "", "there are 1 arguments instead of 2"),
        (&with_thing(r#"{"ThingName": {"Fn::Join": ["-", "a"]}}"#), "", "this is a text, not a list"),
        (&with_thing(r#"{"ThingName": {"Fn::Sub": "${P"}}"#), "", "a ${ has no }"),
        (&with_thing(r#"{"ThingName": {"Fn::Sub": "${nobody}"}}"#), "", "is not declared"),
        (&with_thing(r#"{"ThingName": {"Fn::Select": ["2", ["a", "b"]]}}"#), "", "does not have that place"),
        (&with_thing(r#"{"ThingName": {"Fn::Select": ["-1", ["a", "b"]]}}"#), "", "does not have that place"),
        (&with_thing(r#"{"ThingName": {"Fn::FindInMap": ["N", "a", "x"]}}"#), "", "has no such entry"),
        (
            &with_thing(r#"{"ThingName": {"Fn::FindInMap": ["M", {"Ref": "P"}, "z"]}}"#),
            "",
            "has no such entry",
        ),
        (&with_thing(r#"{"ThingName": {"Fn::FindInMap": ["M", "b", "y"]}}"#), "", "has no such entry"),
        (&with_thing(r#"{"ThingName": "a/b"}"#), "$.Resources.t.Properties.ThingName", "'/'"),
        (
            &with_thing(&format!(r#"{{{name}, "AttributePayload": {{"a b": {{"Ref": "P"}}}}}}"#)),
            "",
            "attribute",
        ),
        (&with_thing(&format!(r#"{{{name}, "ThingGroups": ["operator"]}}"#)), "", "built-in role"),
        (&with_thing(&format!(r#"{{{name}, "ThingGroups": "g"}}"#)), "", "not a list"),
        (&with(&format!("{{{name}}}"), r#"{"a": {"b": {"c": "d"}}}"#), "", "there is no function \"b\""),
    ];
    for (text, path, what) in cases {
        let problems = wrong(TemplateKind::Fleet, text);
        let found = problems.iter().any(|(at, says)| at.starts_with(path) && says.contains(what));
        assert!(found, "{text}\n expected {what:?} at {path:?}, found {problems:#?}");
    }
}

#[test]
fn parameters_are_checked() {
    let with_parameters = |parameters: &str| {
        let rest = with_thing(r#"{"ThingName": "n"}"#);
        let (_, rest) = rest.split_once("\"Mappings\"").unwrap();
        format!("{{\"Parameters\": {parameters}, \"Mappings\"{rest}")
    };
    for (parameters, what) in [
        (r#"{"A": {"Type": "Number"}}"#, "this is not a type"),
        (r#"{"A": {}}"#, "the type is missing"),
        (r#"{"A": "String"}"#, "not an object"),
        (r#"{"A": {"Type": "String", "Default": 1}}"#, "not a text"),
        (r#"{"A": {"Type": "String", "Min": "1"}}"#, "there is no \"Min\" here"),
        (r#"{"A": {"Type": "String", "AllowedValues": []}}"#, "no value is allowed"),
        (
            r#"{"A": {"Type": "String", "Default": "x", "AllowedValues": ["y"]}}"#,
            "none of the allowed values",
        ),
        (r#"{"AWS::Region": {"Type": "String"}}"#, "the broker gives no such parameter"),
        (
            r#"{"AWS::IoT::Certificate::CommonName": {"Type": "String"}}"#,
            "only to devices of an outside authority",
        ),
    ] {
        let problems = wrong(TemplateKind::Fleet, &with_parameters(parameters));
        assert!(problems.iter().any(|(_, says)| says.contains(what)), "{parameters}: {problems:#?}");
    }
    fleet(&with_parameters(r#"{"A": {"Type": "String", "Description": "what it is"}}"#));
}

#[test]
fn policies_are_groups_and_documents_are_refused() {
    let with_policy = |policy: &str| FLEET.replace(r#"{"PolicyName": "telemetry"}"#, policy);
    for (policy, what) in [
        (r#"{"PolicyDocument": {"Version": "2012-10-17"}}"#, "policy documents are not read here"),
        (r#"{"PolicyDocument": "{}", "PolicyName": "x"}"#, "policy documents are not read here"),
        (r#"{}"#, "the policy has no PolicyName"),
        (r#"{"PolicyName": "a/b"}"#, "'/'"),
        (r#"{"PolicyName": "claim"}"#, "built-in role"),
    ] {
        let problems = wrong(TemplateKind::Fleet, &with_policy(policy));
        assert!(problems.iter().any(|(_, says)| says.contains(what)), "{policy}: {problems:#?}");
    }
}

#[test]
fn only_the_newcomers_certificate_can_be_meant() {
    let id = r#"{"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}"#;
    for (properties, what) in [
        (r#"{"CertificateId": "0000"}"#, "is not the newcomer's"),
        (r#"{"CertificateSigningRequest": {"Ref": "SerialNumber"}}"#, "exists before the template"),
        (r#"{}"#, "has no CertificateId"),
        (
            r#"{"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "REVOKED"}"#,
            "neither ACTIVE nor INACTIVE",
        ),
    ] {
        let problems = wrong(TemplateKind::Fleet, &FLEET.replace(id, properties));
        assert!(problems.iter().any(|(_, says)| says.contains(what)), "{properties}: {problems:#?}");
    }
}

#[test]
fn what_no_device_would_receive_is_refused_in_jitp() {
    let problems = wrong(TemplateKind::Jitp, FLEET);
    let said: Vec<_> = problems.iter().map(|(_, says)| says.as_str()).collect();
    assert!(said.contains(&"a template of the kind jitp has no Mappings"));
    assert!(said.contains(&"a template of the kind jitp has no DeviceConfiguration"));
    assert!(TemplateBody::parse(TemplateKind::Jitp, JITP).unwrap().warnings().is_empty());
}

#[test]
fn a_device_that_chooses_its_own_rights_is_pointed_out() {
    let chosen =
        [r#"{"Ref": "P"}"#, r#"{"Fn::Join": ["", ["g-", {"Ref": "P"}]]}"#, r#"{"Fn::Sub": "g-${P}"}"#];
    for group in chosen {
        let template =
            fleet(&with_thing(&format!(r#"{{"ThingName": {{"Ref": "P"}}, "ThingGroups": [{group}]}}"#)));
        let [warning] = template.warnings() else { panic!("{group}: {:?}", template.warnings()) };
        assert_eq!(warning.path, "$.Resources.t.Properties.ThingGroups");
        assert_eq!((warning.line, warning.what.contains("chooses its own group")), (4, true));
    }
    let picked = r#"{"Fn::FindInMap": ["M", {"Ref": "P"}, "x"]}"#;
    let template =
        fleet(&with_thing(&format!(r#"{{"ThingName": {{"Ref": "P"}}, "ThingGroups": [{picked}]}}"#)));
    assert_eq!(template.warnings(), []);
    let same = fleet(&with_thing(r#"{"ThingName": "n"}"#));
    assert!(same.warnings()[0].what.contains("the same thing"));
}

#[test]
fn size_and_depth_are_bounded() {
    let padded = |bytes: usize| format!("{FLEET}{}", " ".repeat(bytes - FLEET.len()));
    fleet(&padded(TEMPLATE_BODY_BYTES_MAX));
    let problems = wrong(TemplateKind::Fleet, &padded(TEMPLATE_BODY_BYTES_MAX + 1));
    assert!(problems[0].1.contains("at most 10240"));
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for levels in [TEMPLATE_DEPTH_MAX + 1, 5_000] {
        let problems = wrong(TemplateKind::Fleet, &nested(levels));
        assert!(problems.iter().any(|(_, says)| says.contains("nested deeper")), "{problems:?}");
    }
    let many: Vec<_> = (0..500).map(|n| format!(r#""S{n}": 1"#)).collect();
    let problems = wrong(TemplateKind::Fleet, &format!("{{{}}}", many.join(",")));
    assert_eq!(problems.len(), TEMPLATE_PROBLEMS_MAX);
}

#[test]
fn override_settings_are_checked() {
    let with_settings = |settings: &str| {
        FLEET.replace(
            r#"{"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}"#,
            settings,
        )
    };
    for (settings, what) in [
        (r#"{"ThingTypeName": "MERGE"}"#, "\"MERGE\" is no setting here"),
        (r#"{"ThingGroups": "KEEP"}"#, "\"KEEP\" is no setting here"),
        (r#"{"ThingName": "REPLACE"}"#, "there is no setting \"ThingName\""),
        (r#""REPLACE""#, "not an object"),
    ] {
        let problems = wrong(TemplateKind::Fleet, &with_settings(settings));
        assert!(problems.iter().any(|(_, says)| says.contains(what)), "{settings}: {problems:#?}");
    }
}
