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
    for signal in ["INT", "TERM"] {
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
