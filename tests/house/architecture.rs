//! What `broker/docs/architecture.md` promises about dependencies and paths is true.

use std::collections::BTreeSet;

use toml::Value;

/// Each crate's folder and the crates of this workspace that it may need. `tests` and `benches` may need all.
const MAY_NEED: [(&str, &[&str]); 11] = [
    ("broker/wire", &[]),
    ("broker/identity", &[]),
    ("acl", &["signet-wire", "signet-identity"]),
    ("broker/core", &["signet-wire", "signet-identity", "signet-acl"]),
    // The registry and the core do not know each other.
    ("broker/registry", &["signet-identity"]),
    ("config", &["signet-wire", "signet-identity", "signet-acl"]),
    ("certs-dev", &[]),
    // The device knows nothing of the broker but what is on the wire.
    ("firmware/core", &[]),
    ("firmware/agent", &["signet-device-core"]),
    // Years of virtual time run against the broker's own registry and authority.
    (
        "firmware/sim",
        &["signet-device-agent", "signet-device-core", "signet-core", "signet-identity", "signet-registry"],
    ),
    (
        "broker/daemon",
        &[
            "signet-wire",
            "signet-identity",
            "signet-acl",
            "signet-core",
            "signet-registry",
            "signet-config",
            "signet-certs-dev",
        ],
    ),
];

/// The crates that decide and touch nothing.
const PURE: [&str; 7] =
    ["broker/wire", "broker/identity", "acl", "broker/core", "broker/registry", "config", "firmware/core"];

/// What a pure crate must not need: runtimes, TLS, HTTP, sockets.
const IMPURE: [&str; 16] = [
    "async-std",
    "axum",
    "hyper",
    "hyper-util",
    "libc",
    "mio",
    "quinn",
    "reqwest",
    "rustix",
    "rustls",
    "rustls-webpki",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tokio-util",
];

/// The folders of the workspace's crates.
fn members() -> Vec<String> {
    let workspace = crate::read("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    members.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn dependencies(folder: &str, kind: &str) -> BTreeSet<String> {
    let manifest = crate::read(&format!("{folder}/Cargo.toml"));
    let table = manifest.get(kind).and_then(Value::as_table);
    table.into_iter().flat_map(toml::Table::keys).cloned().collect()
}

#[test]
fn crates_need_only_what_stands_below_them() {
    for member in members() {
        if ["tests", "benches"].contains(&member.as_str()) {
            continue;
        }
        let (_, allowed) = MAY_NEED
            .iter()
            .find(|(folder, _)| *folder == member)
            .unwrap_or_else(|| panic!("{member} is not in MAY_NEED: say what it may need"));
        for name in dependencies(&member, "dependencies") {
            let ours = name == "signet" || name.starts_with("signet-");
            assert!(!ours || allowed.contains(&name.as_str()), "{member} must not need {name}");
        }
    }
}

#[test]
fn nothing_needs_the_daemon_or_the_tests_but_tests_and_benches() {
    for member in members() {
        if ["tests", "benches"].contains(&member.as_str()) {
            continue;
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            // The tests of the simulated fleet are tests of the whole: they start the broker.
            if (member.as_str(), kind) == ("firmware/sim", "dev-dependencies") {
                continue;
            }
            for name in dependencies(&member, kind) {
                let above = ["signet", "signet-tests", "signet-bench"].contains(&name.as_str());
                assert!(!above, "{member} must not need {name} in its {kind}");
            }
        }
    }
}

#[test]
fn pure_crates_need_no_runtime_tls_http_or_socket_crate() {
    let members = members();
    assert!(PURE.iter().filter(|folder| members.iter().any(|member| member == *folder)).count() >= 5);
    for member in members.iter().filter(|member| PURE.contains(&member.as_str())) {
        for name in dependencies(member, "dependencies") {
            assert!(!IMPURE.contains(&name.as_str()), "{member} must not need {name}");
        }
    }
}

#[test]
fn every_path_that_the_architecture_page_names_exists() {
    let root = crate::root();
    let page =
        std::fs::read_to_string(root.join("broker/docs/architecture.md")).expect("the architecture page");
    let mut paths = 0;
    // Between an odd and an even backtick; fenced blocks have three and keep the count odd.
    for quoted in page.split('`').skip(1).step_by(2) {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if quoted.contains('/') && quoted.chars().all(is_path) {
            assert!(root.join(quoted).exists(), "architecture.md names {quoted}, which does not exist");
            paths += 1;
        }
    }
    assert!(paths > 20, "only {paths} paths were found: did the page change its form?");
}
