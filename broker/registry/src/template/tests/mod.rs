//! Templates: what is checked, what is given, what is refused.

mod checks;
mod evaluation;
mod properties;
mod subject;

use std::collections::BTreeMap;

use signet_identity::{CertificateId, NameError};

use super::*;
use crate::{Override, Overrides, TEMPLATE_BODY_BYTES_MAX, TemplateKind};

/// The shape that AWS publishes for fleet provisioning, with every section and function that it shows.
pub(super) const FLEET: &str = r#"{
  "Parameters": {
    "SerialNumber": {"Type": "String"},
    "DeviceLocation": {"Type": "String", "Default": "Seattle"},
    "AWS::IoT::Certificate::Id": {"Type": "String"}
  },
  "Mappings": {
    "LocationTable": {
      "Seattle": {"LocationUrl": "https://seattle.example", "Group": "west"},
      "Oslo": {"LocationUrl": "https://oslo.example", "Group": "north"}
    }
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "SerialNumber"}},
        "ThingName": {"Fn::Join": ["", ["fp_", {"Ref": "SerialNumber"}]]},
        "ThingTypeName": {"Fn::Join": ["", ["Sensor", {"Fn::Select": ["0", {"Fn::Split": ["-", "M1-x"]}]}]]},
        "ThingGroups": ["all", {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "Group"]}]
      },
      "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}
    },
    "certificate": {
      "Type": "AWS::IoT::Certificate",
      "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
      "OverrideSettings": {"Status": "REPLACE"}
    },
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "telemetry"}}
  },
  "DeviceConfiguration": {
    "FallbackUrl": "https://example.org/",
    "LocationUrl": {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "LocationUrl"]},
    "Topic": {"Fn::Sub": "devices/fp_${SerialNumber}/data ${!kept}"}
  }
}"#;

/// The shape that AWS publishes for just-in-time provisioning.
pub(super) const JITP: &str = r#"{
  "Parameters": {
    "AWS::IoT::Certificate::CommonName": {"Type": "String"},
    "AWS::IoT::Certificate::SerialNumber": {"Type": "String"},
    "AWS::IoT::Certificate::Country": {"Type": "String"},
    "AWS::IoT::Certificate::Id": {"Type": "String"}
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"},
        "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "AWS::IoT::Certificate::SerialNumber"}},
        "ThingGroups": ["v1-things", {"Ref": "AWS::IoT::Certificate::Country"}]
      },
      "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}
    },
    "certificate": {
      "Type": "AWS::IoT::Certificate",
      "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}
    },
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "telemetry"}}
  }
}"#;

pub(super) fn id() -> CertificateId {
    CertificateId::of(b"a newcomer")
}

pub(super) fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

pub(super) fn fleet(text: &str) -> TemplateBody {
    TemplateBody::parse(TemplateKind::Fleet, text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// A fleet template whose thing has these properties, with the parameters `P` and `Q` of which `Q` is `q` by default.
pub(super) fn with_thing(properties: &str) -> String {
    with(properties, "{}")
}

pub(super) fn with(properties: &str, configuration: &str) -> String {
    format!(
        r#"{{"Parameters": {{"P": {{"Type": "String"}}, "Q": {{"Type": "String", "Default": "q"}}}},
"Mappings": {{"M": {{"a": {{"x": "ax", "y": "ay"}}, "b": {{"x": "bx"}}}}}},
"Resources": {{
"t": {{"Type": "AWS::IoT::Thing", "Properties": {properties}}},
"c": {{"Type": "AWS::IoT::Certificate", "Properties": {{"CertificateId": {{"Ref": "AWS::IoT::Certificate::Id"}}}}}}}},
"DeviceConfiguration": {configuration}}}"#
    )
}

/// What `expression` gives when `P` is `p`.
pub(super) fn value(expression: &str, p: &str) -> Result<String, EvaluateError> {
    let text = with(r#"{"ThingName": "n"}"#, &format!(r#"{{"v": {expression}}}"#));
    let provisioned = fleet(&text).evaluate(&given(&[("P", p)]), &CertificateParameters::issued(id()))?;
    Ok(provisioned.device_configuration.get("v").unwrap().clone())
}

/// The paths and texts of what is wrong.
pub(super) fn wrong(kind: TemplateKind, text: &str) -> Vec<(String, String)> {
    let problems = TemplateBody::parse(kind, text).expect_err("the template is refused");
    assert!(problems.iter().all(|problem| !problem.help.is_empty() && problem.path.starts_with('$')));
    problems.into_iter().map(|problem| (problem.path, problem.what)).collect()
}
