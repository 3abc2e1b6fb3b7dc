//! The section `Resources`.

use super::super::body::{CertificateResource, Located, ThingOverrides, ThingResource};
use super::super::expression::{Expr, List};
use super::super::node::{Node, Value, shown};
use super::super::subject::ID;
use super::Compiler;
use crate::{Override, TemplateKind};

const TYPES: &str = "the types are AWS::IoT::Thing, AWS::IoT::Certificate and AWS::IoT::Policy";
const CERTIFICATE: &str = "write \"CertificateId\": {\"Ref\": \"AWS::IoT::Certificate::Id\"}";

/// A resource before its type is looked at.
struct Resource {
    at: usize,
    kind: String,
    properties: Vec<(String, Node)>,
    overrides: Option<Node>,
}

impl Compiler<'_> {
    pub(super) fn resources(
        &mut self,
        node: Node,
    ) -> Option<(ThingResource, CertificateResource, Vec<Located<Expr>>)> {
        let at = node.at;
        let (mut thing, mut certificate, mut policies) = (None, None, Vec::new());
        let (mut things, mut certificates) = (0, 0);
        for (name, node) in self.object(node, TYPES)? {
            self.member(&name, |c| {
                let Some(resource) = c.resource(node) else { return };
                let at = resource.at;
                match resource.kind.as_str() {
                    "AWS::IoT::Thing" => {
                        things += 1;
                        thing = c.thing(resource).or_else(|| thing.take());
                    }
                    "AWS::IoT::Certificate" => {
                        certificates += 1;
                        certificate = c.certificate(resource).or_else(|| certificate.take());
                    }
                    "AWS::IoT::Policy" => policies.extend(c.policy(resource)),
                    other => {
                        c.checker.problem(at, format!("there is no type {:?}", shown(other)), TYPES);
                    }
                }
            });
        }
        let one = [
            (things, "AWS::IoT::Thing", "every newcomer becomes one thing: declare it with its ThingName"),
            (certificates, "AWS::IoT::Certificate", CERTIFICATE),
        ];
        for (count, kind, help) in one {
            if count != 1 {
                let what = format!("there are {count} resources of the type {kind} instead of 1");
                self.checker.problem(at, what, help);
            }
        }
        Some((thing?, certificate?, policies))
    }

    fn resource(&mut self, node: Node) -> Option<Resource> {
        let at = node.at;
        let (mut kind, mut properties, mut overrides) = (None, None, None);
        for (key, node) in self.object(node, "a resource has Type, Properties and OverrideSettings")? {
            let at = node.at;
            match key.as_str() {
                "Type" => kind = self.member(&key, |c| c.plain_text(node, TYPES)),
                "Properties" => properties = self.member(&key, |c| c.object(node, "list the properties")),
                "OverrideSettings" => overrides = Some(node),
                _ => self.member(&key, |c| {
                    let help = "a resource has Type, Properties and OverrideSettings";
                    c.checker.problem(at, format!("there is no {:?} here", shown(&key)), help);
                }),
            }
        }
        if kind.is_none() {
            self.checker.problem(at, "the type is missing", TYPES);
        }
        Some(Resource { at, kind: kind?, properties: properties.unwrap_or_default(), overrides })
    }

    fn thing(&mut self, resource: Resource) -> Option<ThingResource> {
        let mut thing = ThingResource {
            name: None,
            thing_type: None,
            attributes: Vec::new(),
            groups: None,
            overrides: self.thing_overrides(resource.overrides),
        };
        let mut named = false;
        self.member("Properties", |c| {
            for (key, node) in resource.properties {
                let at = node.at;
                match key.as_str() {
                    "ThingName" => {
                        named = true;
                        thing.name = c.located(&key, node);
                    }
                    "ThingTypeName" => thing.thing_type = c.located(&key, node),
                    "AttributePayload" => thing.attributes = c.attributes(node),
                    "ThingGroups" => thing.groups = c.groups(node),
                    "BillingGroup" => c.member(&key, |c| {
                        let help = "leave it out; ThingGroups are the groups that count";
                        c.checker.warning(
                            at,
                            "there are no billing groups here, so this has no effect",
                            help,
                        );
                    }),
                    _ => c.member(&key, |c| {
                        let help = "a thing has ThingName, ThingTypeName, AttributePayload and ThingGroups";
                        c.checker.problem(at, format!("there is no property {:?}", shown(&key)), help);
                    }),
                }
            }
        });
        if !named && self.kind != TemplateKind::Rotation {
            self.checker.problem(resource.at, "the thing has no ThingName", "say how it is named");
            return None;
        }
        (!named || thing.name.is_some()).then_some(thing)
    }

    fn attributes(&mut self, node: Node) -> Vec<(String, Located<Expr>)> {
        self.member("AttributePayload", |c| {
            let members = c.object(node, "write \"NAME\": \"TEXT\" for each attribute").unwrap_or_default();
            members
                .into_iter()
                .filter_map(|(name, node)| {
                    let value = c.located(&name, node)?;
                    Some((name, value))
                })
                .collect()
        })
    }

    fn groups(&mut self, node: Node) -> Option<Located<List>> {
        let offset = node.at;
        self.member("ThingGroups", |c| Some(Located { at: c.checker.path(), offset, part: c.list(node)? }))
    }

    fn thing_overrides(&mut self, node: Option<Node>) -> ThingOverrides {
        let (kept, mut refuse) = (Override::Keep, false);
        let mut settings =
            ThingOverrides { refuse: false, replace_type: false, attributes: kept, groups: kept };
        let Some(node) = node else { return settings };
        self.member("OverrideSettings", |c| {
            let form = "the settings of a thing are AttributePayload, ThingTypeName and ThingGroups";
            for (key, node) in c.object(node, form).unwrap_or_default() {
                let at = node.at;
                c.member(&key, |c| {
                    let part = match key.as_str() {
                        "AttributePayload" | "ATTRIBUTE_PAYLOAD" => Some(&mut settings.attributes),
                        "ThingGroups" | "THING_GROUPS" => Some(&mut settings.groups),
                        "ThingTypeName" | "THING_TYPE_NAME" => None,
                        _ => {
                            c.checker.problem(at, format!("there is no setting {:?}", shown(&key)), form);
                            return;
                        }
                    };
                    let setting = c.override_setting(node, part.is_some());
                    match (setting, part) {
                        (Some(Setting::Fail), _) => refuse = true,
                        (Some(Setting::Part(setting)), Some(part)) => *part = setting,
                        (Some(Setting::Part(setting)), None) => {
                            settings.replace_type = setting == Override::Replace;
                        }
                        (None, _) => {}
                    }
                });
            }
        });
        settings.refuse = refuse;
        settings
    }

    fn override_setting(&mut self, node: Node, merges: bool) -> Option<Setting> {
        let help = if merges {
            "write DO_NOTHING, REPLACE, MERGE or FAIL"
        } else {
            "write DO_NOTHING, REPLACE or FAIL"
        };
        let at = node.at;
        let setting = self.plain_text(node, help)?;
        match setting.to_ascii_uppercase().as_str() {
            "DO_NOTHING" => Some(Setting::Part(Override::Keep)),
            "REPLACE" => Some(Setting::Part(Override::Replace)),
            "MERGE" if merges => Some(Setting::Part(Override::Merge)),
            "FAIL" => Some(Setting::Fail),
            _ => {
                self.checker.problem(at, format!("{:?} is no setting here", shown(&setting)), help);
                None
            }
        }
    }

    fn certificate(&mut self, resource: Resource) -> Option<CertificateResource> {
        // The certificate is always a new one here, so its settings never apply; they are checked all the same.
        if let Some(node) = resource.overrides {
            self.member("OverrideSettings", |c| {
                let form = "the setting of a certificate is Status";
                for (key, node) in c.object(node, form).unwrap_or_default() {
                    let at = node.at;
                    c.member(&key, |c| {
                        if key == "Status" || key == "STATUS" {
                            c.override_setting(node, false);
                        } else {
                            c.checker.problem(at, format!("there is no setting {:?}", shown(&key)), form);
                        }
                    });
                }
            });
        }
        let (mut id, mut status, mut named) = (None, None, false);
        self.member("Properties", |c| {
            for (key, node) in resource.properties {
                let at = node.at;
                match key.as_str() {
                    "CertificateId" => {
                        named = true;
                        id = c.located(&key, node);
                    }
                    "Status" => status = c.located(&key, node),
                    "CertificateSigningRequest" | "CertificatePem" | "CACertificatePem" => {
                        c.member(&key, |c| {
                            let what = "the certificate exists before the template is asked";
                            c.checker.problem(at, what, CERTIFICATE);
                        });
                    }
                    _ => c.member(&key, |c| {
                        let help = "a certificate has CertificateId and Status";
                        c.checker.problem(at, format!("there is no property {:?}", shown(&key)), help);
                    }),
                }
            }
        });
        if !named {
            self.checker.problem(resource.at, "the certificate has no CertificateId", CERTIFICATE);
        }
        let id = id?;
        let mut own = false;
        id.part.each_parameter(&mut |name| own |= name == ID);
        if !own {
            self.checker.problem(resource.at, "the CertificateId is not the newcomer's", CERTIFICATE);
        }
        Some(CertificateResource { id, status })
    }

    fn policy(&mut self, resource: Resource) -> Option<Located<Expr>> {
        let help =
            "write the rules in the ACL file, in a section `role NAME`, and give that NAME as PolicyName";
        if let Some(node) = resource.overrides {
            self.member("OverrideSettings", |c| {
                c.checker.problem(node.at, "a policy has no OverrideSettings", "leave them out");
            });
        }
        let (mut name, mut missing) = (None, true);
        self.member("Properties", |c| {
            for (key, node) in resource.properties {
                let at = node.at;
                match key.as_str() {
                    "PolicyName" => {
                        missing = false;
                        name = c.located(&key, node);
                    }
                    "PolicyDocument" => {
                        missing = false;
                        c.member(&key, |c| {
                            let what = match node.value {
                                Value::Object(_) | Value::Text(_) => "policy documents are not read here",
                                _ => "this is no policy document, and those are not read here",
                            };
                            c.checker.problem(at, what, help);
                        });
                    }
                    _ => c.member(&key, |c| {
                        c.checker.problem(at, format!("there is no property {:?}", shown(&key)), help);
                    }),
                }
            }
        });
        if missing {
            self.checker.problem(resource.at, "the policy has no PolicyName", help);
        }
        name
    }
}

/// What a setting says.
enum Setting {
    Fail,
    Part(Override),
}
