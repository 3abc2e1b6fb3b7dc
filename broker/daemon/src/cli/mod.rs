//! The commands.

pub mod acl;
pub mod args;
pub mod config;
pub mod dev;
mod dev_registry;
pub mod doctor;
pub mod operate;
pub mod ota;
pub mod out;
pub mod registry;
pub mod tls;

use args::{Command, ImportCommand, RunArgs, SessionsCommand, Source, TlsCommand};
use out::{Failure, Outcome};

use crate::server::{ConfigSource, Server};

/// Carries out one command.
pub fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Dev(args) => dev::dev(&args),
        Command::Run(args) => run_broker(&args),
        Command::Check(args) => config::check(&args),
        Command::Import(ImportCommand::Mosquitto { file, output, json }) => {
            config::import_mosquitto(&file, output.as_deref(), json)
        }
        Command::Acl(command) => acl::acl(command),
        Command::Reload(args) => operate::reload(&args),
        Command::Status(args) => operate::status(&args),
        Command::Stop(args) => operate::stop(&args),
        Command::Sessions(SessionsCommand::List(args)) => operate::sessions(&args),
        Command::Sessions(SessionsCommand::Kick { name, client_id, admin }) => {
            operate::kick(&admin, name, client_id)
        }
        Command::Device(command) => registry::device(command),
        Command::Template(command) => registry::template(command),
        Command::Claim(command) => registry::claim(command),
        Command::Ca(command) => registry::ca(command),
        Command::Operator(command) => registry::operator(command),
        Command::Token(command) => registry::token(command),
        Command::Ota(command) => ota::ota(&command),
        Command::Est(command) => registry::est(command),
        Command::Crl(command) => registry::crl(command),
        Command::Audit(command) => registry::audit(command),
        Command::Backup(args) => registry::backup(&args),
        Command::Restore(args) => registry::restore(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Tls(TlsCommand::Failures(args)) => tls::failures(&args),
    }
}

/// The configuration that the arguments name. clap has made sure that there is exactly one.
pub(crate) fn config_source(source: &Source) -> Result<ConfigSource, Failure> {
    match (&source.config, &source.mosquitto_conf) {
        (Some(path), None) => Ok(ConfigSource::Toml(path.clone())),
        (None, Some(path)) => Ok(ConfigSource::Mosquitto(path.clone())),
        _ => Err(Failure::usage("give either --config FILE or --mosquitto-conf FILE")),
    }
}

fn run_broker(args: &RunArgs) -> Result<Outcome, Failure> {
    let server = Server::start_from(config_source(&args.source)?)
        .map_err(|error| Failure::found(error.to_string()))?;
    if let Some(path) = &args.ready_file {
        let mut lines: String = server.addresses().iter().map(|address| format!("{address}\n")).collect();
        lines.extend(server.https_addresses().iter().map(|address| format!("https://{address}\n")));
        // Beside and renamed, so that whoever waits for the file never reads half of it.
        let beside = path.with_extension("new");
        let written = std::fs::write(&beside, lines).and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = written {
            server.stop();
            return Err(Failure::usage(format!("{} cannot be written: {error}", path.display())));
        }
    }
    server.run_until_signal();
    Ok(Outcome::Done)
}
