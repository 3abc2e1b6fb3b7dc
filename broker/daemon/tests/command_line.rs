//! The command line as a whole: every command explains itself in the same way.

use std::process::Command as Program;

use clap::{Command, CommandFactory as _};
use signet::cli::args::Cli;

/// Commands that run until they are stopped, and say nothing that a program would read.
const WITHOUT_JSON: [&str; 2] = ["signet dev", "signet run"];

/// Every command that does something, with its whole name.
fn leaves() -> Vec<(String, Command)> {
    fn walk(name: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            found.push((name.to_owned(), command.clone()));
        }
        for command in below {
            walk(&format!("{name} {}", command.get_name()), command, found);
        }
    }
    let mut found = Vec::new();
    walk("signet", &Cli::command(), &mut found);
    assert!(found.len() > 30, "{} commands", found.len());
    found
}

#[test]
fn clap_finds_nothing_wrong_with_the_definitions() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_prints_json_on_request() {
    for (name, command) in leaves() {
        let about =
            command.get_about().unwrap_or_else(|| panic!("{name} does not say what it does")).to_string();
        assert!(!about.ends_with('.') && about.starts_with(|c: char| c.is_uppercase()), "{name}: {about}");
        let json = command.get_arguments().find(|argument| argument.get_id() == "json");
        assert_eq!(json.is_none(), WITHOUT_JSON.contains(&name.as_str()), "--json of {name}");
        if let Some(json) = json {
            let help = json.get_help().unwrap().to_string();
            assert!(help.starts_with("Print") && help.contains("JSON"), "{name}: {help}");
        }
    }
}

#[test]
fn every_argument_is_explained_and_the_ones_of_one_name_mean_the_same() {
    for (name, command) in leaves() {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 3 && !help.ends_with('.'), "{name} {id}: {help:?}");
            assert!(!help.contains('\u{2014}'), "{name} {id}: {help:?}");
            let value = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
            match (id, value.as_deref()) {
                ("config", value) => assert_eq!(value, Some("FILE"), "{name}"),
                ("socket", value) => assert_eq!(value, Some("SOCKET"), "{name}"),
                (_, Some(value)) => {
                    let shouted = |c: char| !c.is_ascii_lowercase();
                    assert!(
                        !argument.get_action().takes_values() || value.chars().all(shouted),
                        "{name} {id}: {value}"
                    );
                }
                (_, None) => {}
            }
        }
    }
}

#[test]
fn commands_that_find_something_wrong_document_their_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes: 0 done; 1 ran and found something wrong; 2 could not run."), "{help}");
    let with: Vec<String> = leaves()
        .into_iter()
        .filter(|(_, command)| {
            command.get_after_help().is_some_and(|after| after.to_string().contains("Exit codes: 0 "))
        })
        .map(|(name, _)| name)
        .collect();
    for name in ["signet check", "signet acl why", "signet acl lint", "signet acl diff", "signet doctor"] {
        assert!(with.iter().any(|with| with == name), "{name} does not say what its exit codes mean");
    }
}

#[test]
fn a_broker_named_by_its_configuration_is_not_in_conflict_with_the_one_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"c\"\nprivate-key = \"k\"\n\
        client-ca = [\"r\"]\n[acl]\nfile = \"a\"\n[admin]\nsocket = \"named-by-config.sock\"\n";
    std::fs::write(dir.path().join("signet.toml"), config).unwrap();
    let says = |args: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_signet"));
        program.args(args).current_dir(dir.path()).env("SIGNET_SOCKET", "named-by-environment.sock");
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(says(&["status", "--config", "signet.toml"]).contains("named-by-config.sock"));
    assert!(says(&["status"]).contains("named-by-environment.sock"));
    assert!(says(&["status", "--socket", "named-here.sock"]).contains("named-here.sock"));
    let both = says(&["status", "--socket", "named-here.sock", "--config", "signet.toml"]);
    assert!(both.contains("cannot be used with"), "{both}");
}
