//! How commands speak: results on standard output, failures on standard error, and an exit code that means something.

use std::io::Write;

use serde::Serialize;

use super::args::exit;

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked to do.
    Done,
    /// It ran and found something wrong, and has said what.
    Found,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The command line, a file or the broker could not be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit::USAGE }
    }

    /// What was asked for is wrong.
    pub fn found(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit::FOUND }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(written);
}

/// Whether somebody still reads standard output: a pipe whose other end is closed never will.
pub fn still_read() -> bool {
    let out = std::io::stdout();
    let mut wanted = [rustix::event::PollFd::new(&out, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut wanted, Some(&now)) {
        Ok(0) | Err(_) => true,
        Ok(_) => !wanted
            .iter()
            .any(|fd| fd.revents().intersects(rustix::event::PollFlags::ERR | rustix::event::PollFlags::HUP)),
    }
}

/// Writes a value as JSON, indented, to standard output.
pub fn say_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::usage(error.to_string()))?;
    say(&text);
    say("\n");
    Ok(())
}

/// Ends the program with the code that `result` asks for.
#[expect(clippy::print_stderr, reason = "the one place that writes failures")]
pub fn finish(result: Result<Outcome, Failure>) -> std::process::ExitCode {
    std::process::ExitCode::from(match result {
        Ok(Outcome::Done) => exit::OK,
        Ok(Outcome::Found) => exit::FOUND,
        Err(failure) => {
            eprintln!("signet: {}", failure.message.trim_end());
            failure.code
        }
    })
}
