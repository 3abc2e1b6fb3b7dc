//! What no rule can allow: topics that belong to the broker, or to one role.
//!
//! Below `$aws/` the broker speaks and nobody else, but for the requests of provisioning, which claims and devices publish and
//! which are answered, never routed, and read by nobody. What the broker tells about the fleet (`$aws/events/...`) is for operators.

use signet_identity::Role;

use crate::decision::Access;

/// What the broker tells about connections and certificates.
const EVENTS: &str = "$aws/events/";

/// Whether `asked` is closed to `role` whatever the rules say.
pub(crate) fn is_reserved(role: Role, access: Access, asked: &str) -> bool {
    if !asked.starts_with('$') {
        return false;
    }
    if asked.starts_with("$share") {
        return true;
    }
    match access {
        Access::Write => {
            asked.starts_with("$CONTROL/")
                || (asked.starts_with("$SYS") && !is_bridge_state(asked))
                || (asked.starts_with("$aws/") && !(role != Role::Operator && is_request(asked)))
        }
        Access::Read | Access::Subscribe => {
            (role != Role::Operator && asked.starts_with(EVENTS))
                || (asked.starts_with("$aws/") && is_request(asked))
        }
    }
}

/// `$SYS/broker/connection/+/state`, where a bridge of another broker says whether it is connected.
fn is_bridge_state(topic: &str) -> bool {
    let name = topic.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    name.is_some_and(|name| !name.contains('/'))
}

/// Whether a topic is one that provisioning is asked by.
fn is_request(topic: &str) -> bool {
    let Some((operation, "json" | "cbor")) = topic.rsplit_once('/') else { return false };
    match operation {
        "$aws/certificates/create" | "$aws/certificates/create-from-csr" => true,
        _ => operation
            .strip_prefix("$aws/provisioning-templates/")
            .and_then(|rest| rest.strip_suffix("/provision"))
            .is_some_and(|template| !template.is_empty() && !template.contains('/')),
    }
}

/// Whether a topic or filter is one of the provisioning topics, requests and answers: what the built-in rights are about.
pub(crate) fn is_provisioning(asked: &str) -> bool {
    asked.starts_with("$aws/certificates/") || asked.starts_with("$aws/provisioning-templates/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_requests_are_open_below_aws_and_never_to_operators() {
        let open = [
            "$aws/certificates/create/json",
            "$aws/certificates/create-from-csr/cbor",
            "$aws/provisioning-templates/fleet/provision/json",
        ];
        for topic in open {
            for role in [Role::Claim, Role::Device] {
                assert!(!is_reserved(role, Access::Write, topic), "{topic}");
            }
            assert!(is_reserved(Role::Operator, Access::Write, topic), "{topic}");
            for role in Role::ALL {
                assert!(
                    is_reserved(role, Access::Read, topic) && is_reserved(role, Access::Subscribe, topic),
                    "{topic}"
                );
            }
        }
        for topic in [
            "$aws/certificates/create/json/accepted",
            "$aws/certificates/create/json/rejected",
            "$aws/certificates/create/json/",
            "$aws/certificates/create/xml",
            "$aws/certificates/create",
            "$aws/certificates/createjson",
            "$aws/Certificates/create/json",
            "$aws/provisioning-templates//provision/json",
            "$aws/provisioning-templates/a/b/provision/json",
            "$aws/provisioning-templates/a/provision/json/accepted",
            "$aws/events/presence/connected/x",
            "$aws/things/x/shadow/update",
            "$aws/",
        ] {
            for role in Role::ALL {
                assert!(is_reserved(role, Access::Write, topic), "{role} {topic}");
            }
        }
    }

    #[test]
    fn events_are_read_by_operators_alone() {
        for asked in ["$aws/events/#", "$aws/events/presence/connected/x"] {
            for access in [Access::Read, Access::Subscribe] {
                assert!(is_reserved(Role::Device, access, asked));
                assert!(is_reserved(Role::Claim, access, asked));
                assert!(!is_reserved(Role::Operator, access, asked));
            }
        }
        assert!(!is_reserved(Role::Device, Access::Read, "$aws/things/x"));
        assert!(!is_reserved(Role::Device, Access::Write, "a$aws/things/x"));
    }
}
