//! A decision allocates nothing, whichever rules and names it meets.

mod support;

use allocation_counter::measure;
use signet_acl::Subject;
use support::{claim, filter, member, operator, policy, topic};

const POLICY: &str = "\
pattern deny devices/%u/telemetry/secret
pattern write devices/%u/telemetry/#
pattern read devices/%c/commands/#
pattern read things/%t/+/%u
user admin
topic deny devices/+/private/#
topic read #
topic write devices/+/commands/#
role operator
topic read $SYS/#
role meters
pattern write meters/%t/#
role claim
topic deny $aws/certificates/create/json
";

#[test]
fn no_decision_allocates() {
    let policy = policy(POLICY);
    let principals = [
        member("sensor-001", &["meters", "other"]),
        member("admin", &[]),
        operator("olga"),
        claim("batch", &["fleet", "pilot"]),
    ];
    let deep = "a/".repeat(1000);
    let topics = [
        "devices/sensor-001/telemetry/a/b/c",
        "devices/sensor-001/telemetry/secret",
        "devices/x/commands/reboot",
        "things/sensor-001/x/sensor-001",
        "meters/sensor-001/1",
        "$SYS/broker/uptime",
        "$share/g/x",
        "$aws/certificates/create/json",
        "$aws/provisioning-templates/pilot/provision/cbor",
        "/",
        &deep,
    ]
    .map(topic);
    let filters =
        ["#", "+/#", "devices/+/commands/#", "devices/sensor-001/telemetry/+", "$SYS/#", "+/+"].map(filter);
    let mut granted = 0;
    let mut asked = 0;
    // The built-in policy of claims is compiled when it is asked for the first time.
    let warm = Subject { principal: &principals[3], client_id: "c" };
    assert!(policy.may_publish(&warm, &topics[8]).is_ok());
    let allocations = measure(|| {
        for principal in &principals {
            for client_id in ["sensor-001", "a+b", ""] {
                let who = Subject { principal, client_id };
                for topic in &topics {
                    granted += usize::from(policy.may_publish(&who, topic).is_ok());
                    granted += usize::from(policy.may_receive(&who, topic).is_ok());
                    asked += 2;
                }
                for filter in &filters {
                    granted += usize::from(policy.may_subscribe(&who, filter).is_ok());
                    asked += 1;
                }
            }
        }
    });
    assert_eq!(allocations.count_total, 0);
    assert!(granted > 20 && granted < asked, "{granted} of {asked} granted");
}
