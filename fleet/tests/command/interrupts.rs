//! Ctrl-C and SIGTERM: the run ends in order, and what there was until then is written.

use std::process::Command;

use serde_json::{Value, json};

use crate::main_job::{assert_balance, number};
use crate::support::{PROGRAM, Running, silent_broker, text};

fn start(arguments: &[&str]) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--json", "-"]).args(arguments);
    Running::start(command)
}

#[test]
fn an_interrupted_run_writes_its_json_and_exits_130() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut run = start(&["--devices", "5", "--duration", "10m", "--period", "100ms"]);
        run.error_line(|line| line.contains("hold"));
        run.signal(signal);
        let json = run.end().expect_code(130).json();
        assert_eq!(
            (&json["interrupted"], &json["connected"]),
            (&json!(true), &json!(5))
        );
        assert_eq!((&json["failed"], &json["lost"]), (&json!(0), &json!(0)), "{json}");
        assert!(number(&json, "acknowledged") > 0);
        assert_eq!(json["endpoint_counts"]["publishes"], json["published"]);
        assert_balance(&json);
    }
}

/// Devices that have not had their turn are undecided, not failed.
#[test]
fn an_interrupted_ramp_leaves_devices_undecided() {
    let directory = tempfile::tempdir().unwrap();
    let file = text(&directory.path().join("result.json"));
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--devices", "100", "--connect-rate", "1", "--json", &file]);
    let mut run = Running::start(command);
    run.error_line(|line| line.contains("ramp"));
    run.signal("INT");
    let ended = run.end().expect_code(130);
    assert!(ended.stdout.contains("INTERRUPTED"), "{}", ended.stdout);
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let (connected, undecided) = (number(&json, "connected"), number(&json, "undecided"));
    assert!(connected > 0 && undecided > 50, "{json}");
    assert_eq!((connected + undecided, &json["failed"]), (100, &json!(0)));
    // Nobody dialled after the signal.
    assert_eq!(json["endpoint_counts"]["connections"], json["connected"]);
}

/// The run that waits for an endpoint that says nothing is ended by the second signal, and its file is not left empty.
#[cfg(target_os = "linux")]
#[test]
fn a_forced_end_writes_its_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = text(&directory.path().join("result.json"));
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--devices", "1", "--duration", "10m", "--json", &file]);
    let mut run = Running::start(command);
    run.error_line(|line| line.contains("hold"));
    run.signal_child("STOP");
    for _ in 0..20 {
        run.signal("INT");
    }
    run.end().expect_code(130);
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(
        (&json["interrupted"], &json["devices"]),
        (&json!(true), &json!(1))
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_endpoint_that_says_nothing_is_not_waited_for_long() {
    let mut run = start(&["--devices", "1", "--duration", "10m"]);
    run.error_line(|line| line.contains("hold"));
    run.signal_child("STOP");
    run.signal("INT");
    run.error_line(|line| line == "waiting for the endpoint...");
    let json = run.end().expect_code(130).json();
    assert_eq!(json["error"]["slug"], "endpoint_silent", "{json}");
    assert!(json["error"]["text"].as_str().unwrap().contains("within 2 s"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_endpoint_that_dies_ends_the_run() {
    let mut run = start(&["--devices", "2", "--duration", "10m"]);
    run.error_line(|line| line.contains("hold"));
    run.signal_child("KILL");
    let json = run.end().expect_code(1).json();
    assert_eq!(json["error"]["slug"], "endpoint_died", "{json}");
    let text = json["error"]["text"].as_str().unwrap();
    assert!(text.starts_with("the endpoint died (signal 9) after "), "{text}");
    assert_eq!(json["interrupted"], false);
}

/// After the second one nobody waits for acknowledgements that will not come.
#[test]
fn a_second_signal_aborts() {
    let url = format!("mqtt://{}", silent_broker());
    let arguments = [
        "--broker",
        &url,
        "--mqtt",
        "3.1.1",
        "--devices",
        "2",
        "--duration",
        "10m",
        "--drain",
        "10m",
    ];
    let mut run = start(&arguments);
    run.error_line(|line| line.contains("hold"));
    // Two that come at once may be one for the system, so there are more of them.
    for _ in 0..20 {
        run.signal("INT");
    }
    let json = run.end().expect_code(130).json();
    assert_eq!(json["interrupted"], true);
    assert_eq!(json["lost"], json["published"]);
    assert!(json["phases"]["drain_seconds"].as_f64().unwrap() < 1.9, "{json}");
}
