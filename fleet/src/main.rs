//! The command `fleetwire`: arguments, scenarios, devices, measurements, reports. No protocol logic.
//!
//! ```text
//! arguments ─▶ scenario ─▶ prepare ─▶ run ──────▶ outcome ─▶ report (JSON), summary (people), exit code
//!   broker      template    identities  devices      tally
//!   values                  preflight   window       latency
//!                           child       progress     failures, refusals, advice
//! ```

mod advice;
mod arguments;
mod broker;
mod certs;
mod child;
mod cost;
mod devices;
mod endpoint;
mod failures;
mod identities;
mod latency;
mod outcome;
mod overload;
mod payload;
mod plan_text;
mod preflight;
mod prepare;
mod problem;
mod progress;
mod refusals;
mod report;
mod run;
mod scenario;
mod signals;
mod summary;
mod tally;
mod template;
mod text;
mod values;
mod window;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{CertsCommand, Cli, Command};
use crate::problem::Problem;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Endpoint(arguments) => endpoint::run(&arguments),
        Command::Certs(CertsCommand::Issue(arguments)) => certs::run(&arguments),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(problem) => {
            tell(&problem);
            problem.exit().into()
        }
    }
}

/// Writes to stdout. That nobody reads it is no reason to fail; that it cannot be kept is one.
fn print_text(text: &str) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Problem::failed(format!(
            "the output cannot be written to stdout: {error}."
        ))),
        _ => Ok(()),
    }
}

/// The same with a line end.
fn print_line(line: &str) -> Result<(), Problem> {
    print_text(&format!("{line}\n"))
}

/// Writes a line to stderr, which may be closed as well.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
