//! The command `fleetwire` as its users run it: a process with arguments, output, files and an exit code.

mod brokers;
mod certs;
mod endpoint;
mod interrupts;
mod main_job;
mod support;
mod wrong;
