//! The `signet` program. All of it is in the library, so that tests can call it.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the end of the program waits for a token that still closes its sessions.
const TOKENS_REST_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

fn main() -> std::process::ExitCode {
    signet::pages::begin_small();
    let cli = signet::cli::args::Cli::parse();
    let done = signet::cli::run(cli.command);
    signet::ca::pkcs11::rest(TOKENS_REST_WITHIN);
    signet::cli::out::finish(done)
}
