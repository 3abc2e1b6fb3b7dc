//! What holds for any template and any parameters.

use proptest::prelude::*;

use super::*;

/// Any JSON of the words that mean something in templates.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "Ref",
        "Fn::Join",
        "Fn::Sub",
        "Fn::Split",
        "Fn::Select",
        "Fn::FindInMap",
        "P",
        "Q",
        "M",
        "a",
        "x",
        "0",
        "1",
        "-",
        "",
        "${P}",
        "${",
        "${!x}",
        "AWS::IoT::Certificate::Id",
    ]);
    let leaf = prop_oneof![
        8 => word.clone().prop_map(serde_json::Value::from),
        1 => any::<i64>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            (word.clone(), inner).prop_map(|(key, value)| serde_json::json!({ key: value })),
        ]
    })
}

proptest! {
    #[test]
    fn any_expression_is_refused_whole_or_evaluates_within_its_bounds(
        expression in json(),
        p in "[ -~\u{80}-\u{2fff}]{0,40}",
    ) {
        let text = with(r#"{"ThingName": {"Fn::Sub": "n${Q}"}}"#, &format!(r#"{{"v": {expression}}}"#));
        match TemplateBody::parse(TemplateKind::Fleet, &text) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(template) => {
                let certificate = CertificateParameters::issued(id());
                if let Ok(provisioned) = template.evaluate(&given(&[("P", &p)]), &certificate) {
                    let v = &provisioned.device_configuration["v"];
                    prop_assert!(v.len() <= TEMPLATE_TEXT_BYTES_MAX);
                    prop_assert!(!v.contains(char::is_control));
                    // The same in, the same out.
                    prop_assert_eq!(Ok(provisioned), template.evaluate(&given(&[("P", &p)]), &certificate));
                }
            }
        }
    }

    #[test]
    fn whatever_a_device_sends_its_thing_has_a_name(p in ".{0,100}") {
        for name in [r#"{"Ref": "P"}"#, r#"{"Fn::Sub": "s-${P}"}"#] {
            let template = fleet(&with_thing(&format!(r#"{{"ThingName": {name}, "ThingGroups": [{name}]}}"#)));
            if let Ok(provisioned) = template.evaluate(&given(&[("P", &p)]), &CertificateParameters::issued(id())) {
                let name = provisioned.thing.name.as_str();
                prop_assert!(signet_identity::NameRule::default().check(name).is_ok());
                prop_assert!(name.ends_with(&p), "nothing of it was dropped");
            }
        }
    }

    #[test]
    fn any_text_is_checked_without_harm(text in "[\\[\\]{}\":,a-z\\\\ud8\n ]{0,200}") {
        for kind in [TemplateKind::Fleet, TemplateKind::Jitp, TemplateKind::Rotation] {
            if let Err(problems) = TemplateBody::parse(kind, &text) {
                let lines = text.matches('\n').count() + 1;
                prop_assert!(!problems.is_empty() && problems.iter().all(|p| (1..=lines).contains(&p.line)));
            }
        }
    }
}
