//! The `signet` program. All of it is in the library, so that tests can call it.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = signet::cli::args::Cli::parse();
    signet::cli::out::finish(signet::cli::run(cli.command))
}
