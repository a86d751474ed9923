//! `fleetwire endpoint`: what it prints, what it keeps, how it ends.

use std::fs;
use std::process::Command;

use crate::support::{EndpointProcess, PROGRAM, Running, fleetwire, text};

/// The lines that it prints are typed into a shell as they stand.
#[test]
fn the_printed_commands_can_be_pasted() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("it's a state");
    let mut command = Command::new(PROGRAM);
    command
        .args([
            "endpoint",
            "--listen",
            "127.0.0.1:0",
            "--plain",
            "127.0.0.1:0",
            "--user",
            "ann:s p",
            "--state",
        ])
        .arg(&state);
    let mut endpoint = Running::start(command);
    let mut paste = |start: &str, more: &str| {
        let line = endpoint.line(|line| line.trim_start().starts_with(start));
        let line = line.trim_start().strip_prefix("fleetwire").unwrap().to_owned();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\"{line} {more}"), PROGRAM]);
        Running::start(shell).end().expect_code(0)
    };
    // Fewer than it proposes, to be quick.
    let quick = "--devices 2 --duration 100ms --period 50ms";
    paste("fleetwire certs issue", "");
    paste("fleetwire run --broker 'mqtts:", quick);
    paste("fleetwire run --broker 'mqtts:", quick);
    paste("fleetwire run --broker mqtt:", quick);
    endpoint.signal("TERM");
    let ended = endpoint.end().expect_code(0);
    assert!(
        ended
            .stdout
            .contains("ended: 2 distinct client certificates, 6 connections"),
        "{}",
        ended.stdout
    );
}

#[test]
fn its_certificates_persist() {
    let directory = tempfile::tempdir().unwrap();
    let state = text(&directory.path().join("state"));
    let files = ["ca.crt", "ca.key", "server.crt", "server.key"];
    let read = || files.map(|name| fs::read(directory.path().join("state").join(name)).unwrap());
    let serve = |more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command
            .args(["endpoint", "--listen", "127.0.0.1:0", "--state", &state])
            .args(more);
        let mut running = Running::start(command);
        running.line(|line| line.starts_with("listening on 127.0.0.1:"));
        running.signal("INT");
        running.end().expect_code(0);
        read()
    };
    let first = serve(&[]);
    assert_eq!(serve(&[]), first);
    // A new name needs a new server certificate, and nothing else.
    let renamed = serve(&["--server-name", "broker.example"]);
    assert_eq!((&renamed[..2], &renamed[3]), (&first[..2], &first[3]));
    assert_ne!(renamed[2], first[2]);
}

#[test]
fn a_port_that_is_taken_is_a_refused_start() {
    let first = EndpointProcess::start(&[]);
    let taken = first.tls.to_string();
    let ended = fleetwire(["endpoint", "--listen", &taken]).expect_code(3);
    assert!(
        ended.stderr.contains(&taken) && ended.stderr.contains("another endpoint"),
        "{}",
        ended.stderr
    );
    // RFC 5737: an address of documentation, which no machine has.
    let ended = fleetwire(["endpoint", "--listen", "192.0.2.1:0"]).expect_code(3);
    assert!(
        ended.stderr.contains("no such address") && !ended.stderr.contains("another endpoint"),
        "{}",
        ended.stderr
    );
    fleetwire(["endpoint", "--listen", "127.0.0.1:0", "--user", "nopassword"]).expect_code(2);
}
