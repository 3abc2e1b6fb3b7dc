//! `signet doctor`: what is wrong with a certificate, or with the way to a broker, in plain words.
//!
//! A run looks at everything and reports everything, not only the first trouble: the checks are our own, on certificates that
//! are read once (`certificate`), and each finding is a value of one table (`finding`). Where the broker's verifier has a
//! say it is asked too, and has the last word: what it refuses is never called good. Nothing here decides anything for the
//! broker.

mod args;
mod ask;
mod certificate;
mod chain;
mod device;
mod doors;
mod finding;
mod presented;
mod probe;
mod report;
mod rules;

use std::io::IsTerminal as _;
use std::path::Path;

pub use args::DoctorArgs;
pub use device::Heap;
pub use finding::{Finding, Kind, OpenSsl, Severity};
pub use report::{Fact, Report};

use super::out::{Failure, Outcome, say, say_json};
use crate::clock;

/// Carries out `signet doctor`.
pub fn doctor(args: &DoctorArgs) -> Result<Outcome, Failure> {
    let report = examine(args)?;
    if args.admin.json {
        say_json(&report)?;
    } else {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(&report.text(colours));
    }
    Ok(if report.good { Outcome::Done } else { Outcome::Found })
}

/// Looks at what the arguments name: a file if there is one of that name, else a server.
///
/// # Errors
/// When the arguments make no sense together, or a file that they name cannot be read at all.
pub fn examine(args: &DoctorArgs) -> Result<Report, Failure> {
    let path = Path::new(&args.target);
    if path.exists() {
        for (given, option) in [
            (args.cert.is_some(), "--cert"),
            (args.server_name.is_some(), "--server-name"),
            (args.client_id.is_some(), "--client-id"),
        ] {
            if given {
                return Err(Failure::usage(format!(
                    "{option} goes with HOST:PORT; {} is a file",
                    args.target
                )));
            }
        }
        return presented::certificate(args, path, clock::unix_time());
    }
    let Some((host, port)) = host_and_port(&args.target) else {
        return Err(Failure::usage(format!(
            "{:?} is neither a file that is there nor HOST:PORT\n  hint: signet doctor device.crt, or signet doctor \
             broker.example.net:8883",
            args.target
        )));
    };
    if args.cert.is_some() != args.key.is_some() {
        return Err(Failure::usage("with HOST:PORT give --cert and --key together, or neither"));
    }
    if !args.crl.is_empty() {
        return Err(Failure::usage("--crl goes with a certificate file, not with HOST:PORT"));
    }
    probe::server(args, host, port, clock::unix_time())
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && host.chars().all(plain)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_told_from_a_file_that_is_missing() {
        assert_eq!(host_and_port("broker.example.net:8883"), Some(("broker.example.net", 8883)));
        assert_eq!(host_and_port("[::1]:8883"), Some(("::1", 8883)));
        for text in ["device.crt", "a/b:1", "broker:", "broker:0", "broker:99999", ":8883", "c:\\x.pem"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }
}
