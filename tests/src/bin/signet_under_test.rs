//! The broker as a process of its own, so that its memory can be measured apart from that of its clients. It is the same
//! program as `signet`, allocator included; a test binary cannot name the one of another package.

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    signet::pages::begin_small();
    let cli = signet::cli::args::Cli::parse();
    signet::cli::out::finish(signet::cli::run(cli.command))
}
