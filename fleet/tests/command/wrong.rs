//! Command lines that make no sense, and machines that do not allow them: the exit code, and a text that helps.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use serde_json::json;

use crate::support::{PROGRAM, Running, fleetwire, run, text};

#[test]
fn usage_errors_say_what_is_wrong_and_start_nothing() {
    let cases: [(&[&str], &str); 34] = [
        (&[], "Usage"),
        (&["walk"], "walk"),
        (&["run", "--colour"], "--colour"),
        (&["run", "extra"], "extra"),
        (&["run", "--client-id", "device"], "{index}"),
        (&["run", "--client-id", "{nope}"], "nope"),
        (&["run", "--client-id", "{client_id}"], "client_id"),
        (&["run", "--topic", "a/{nope}"], "nope"),
        (&["run", "--topic", "a/+"], "--topic"),
        (&["run", "--subscribe", "a/#/b"], "--subscribe"),
        (&["run", "--username", "{index"], "--username"),
        (&["run", "--devices", "0"], "--devices"),
        (&["run", "--devices", "-1"], "between 1 and"),
        (&["run", "--seed", "0x7"], "decimal"),
        (&["run", "--dry-run", "--json", "x.json"], "--json"),
        (&["run", "--alpn", "mqtt"], "fleetwire endpoint --user"),
        (
            &["run", "--broker", "mqtts://h", "--insecure", "--ca", "c"],
            "--ca",
        ),
        (
            &[
                "run",
                "--broker",
                "mqtts://h",
                "--identities",
                "i",
                "--client-id",
                "a\n{index}",
            ],
            "file name",
        ),
        (&["run", "--broker", "mqtts://a..b"], "the host of --broker"),
        (&["endpoint", "--listen", "localhost:8883"], "127.0.0.1:8883"),
        (&["endpoint", "--server-name", ""], "--server-name"),
        (&["endpoint", "--domain", "iot.example", "server.crt"], "--domain"),
        (&["run", "--qos", "3"], "0, 1 or 2"),
        (&["run", "--mqtt", "4"], "--mqtt"),
        (&["run", "--period", "0s"], "--period"),
        (&["run", "--duration", "soon"], "--duration"),
        (&["run", "--ca", "ca.crt"], "--broker"),
        (&["run", "--broker", "http://localhost"], "mqtts://"),
        (
            &["run", "--broker", "mqtts://localhost?alpn=a", "--alpn", "b"],
            "disagree",
        ),
        (
            &["run", "--broker", "mqtts://localhost?sni=a", "--sni", "b"],
            "disagree",
        ),
        (&["run", "--broker", "mqtt://localhost", "--alpn", "a"], "--alpn"),
        (
            &["run", "--broker", "mqtts://localhost", "--cert", "a.crt"],
            "--key",
        ),
        (&["run", "--password", "p", "--mqtt", "3.1.1"], "--username"),
        (
            &[
                "certs",
                "issue",
                "--state",
                "s",
                "--out",
                "o",
                "--count",
                "2",
                "--client-id",
                "one",
            ],
            "{index}",
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (arguments, part) in cases {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(directory.path());
        let ended = Running::start(command).end().expect_code(2);
        assert!(
            ended.stderr.contains(part),
            "{arguments:?}: no {part:?} in\n{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    assert_eq!(
        directory.path().read_dir().unwrap().count(),
        0,
        "nothing was written"
    );
}

/// The same name in both places is no disagreement.
#[test]
fn flags_that_repeat_the_url_are_fine() {
    let arguments = [
        "run",
        "--dry-run",
        "--insecure",
        "--broker",
        "mqtts://127.0.0.1?alpn=a,b&sni=x.example",
    ];
    let ended = fleetwire([&arguments[..], &["--alpn", "a,b", "--sni", "x.example"]].concat()).expect_code(0);
    assert!(
        ended.stdout.contains("SNI x.example, ALPN a,b"),
        "{}",
        ended.stdout
    );
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["endpoint", "--help"],
        &["certs", "issue", "--help"],
    ] {
        let ended = fleetwire(arguments).expect_code(0);
        assert!(
            ended.stdout.contains("Usage") && ended.stdout.contains("Examples:") == (arguments.len() > 1)
        );
    }
    let version = fleetwire(["--version"]).expect_code(0);
    assert_eq!(
        version.stdout,
        format!("fleetwire {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = fleetwire(["run", "--help"]).stdout;
    for flag in [
        "--broker",
        "--alpn",
        "--sni",
        "--connect-to",
        "--devices",
        "--index-from",
        "--connect-rate",
        "--connect-timeout",
        "--duration",
        "--drain",
        "--period",
        "--payload-size",
        "--qos",
        "--mqtt",
        "--topic",
        "--subscribe",
        "--client-id",
        "--keep-alive",
        "--username",
        "--password",
        "--ca",
        "--cert",
        "--key",
        "--identities",
        "--insecure",
        "--tls",
        "--ack-timeout",
        "--reconnect",
        "--threads",
        "--seed",
        "--dry-run",
        "--json",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
}

/// Exit code 3, the cause under its name, and JSON all the same.
#[test]
fn a_start_that_is_refused_has_its_reason_in_the_json() {
    let directory = tempfile::tempdir().unwrap();
    let missing = text(&directory.path().join("missing"));
    let broker = "mqtts://127.0.0.1:1";
    let cases: [(&[&str], &str, &str); 4] = [
        (
            &["--broker", broker, "--insecure", "--identities", &missing],
            "identities",
            "device-0.crt",
        ),
        (
            &[
                "--broker",
                broker,
                "--insecure",
                "--cert",
                &missing,
                "--key",
                &missing,
            ],
            "identities",
            "missing",
        ),
        (&["--broker", broker, "--ca", &missing], "", "missing"),
        (
            &["--broker", "mqtt://no-such-host.invalid"],
            "dns_failed",
            "no-such-host.invalid",
        ),
    ];
    for (arguments, slug, part) in cases {
        let ended = run(&[arguments, &["--devices", "3"]].concat()).expect_code(3);
        let json = ended.json();
        let error = &json["error"];
        assert!(slug.is_empty() || error["slug"] == slug, "{json}");
        assert!(error["text"].as_str().unwrap().contains(part), "{json}");
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
        assert_eq!(
            (&json["devices"], &json["connected"], &json["undecided"]),
            (&json!(3), &json!(0), &json!(3))
        );
    }
}

/// The library raises no limits; the command raises the soft one, and does the arithmetic where that is not enough.
#[test]
fn too_few_open_files_are_refused_with_the_arithmetic() {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, PROGRAM]);
        Running::start(command).end()
    };
    let ended = shell("ulimit -n 128 && exec $0 run --devices 100 --json -").expect_code(3);
    let json = ended.json();
    assert_eq!(json["error"]["slug"], "open_files");
    for part in ["100", "164", "128", "--devices 64"] {
        assert!(ended.stderr.contains(part), "no {part} in\n{}", ended.stderr);
    }
    // A low soft limit alone is raised.
    let script = "ulimit -Sn 64 && exec $0 run --devices 80 --duration 0s --period off --json -";
    assert_eq!(shell(script).expect_code(0).json()["connected"], 80);
}

#[test]
fn a_json_file_that_cannot_be_written_is_found_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = text(&directory.path().join("missing/result.json"));
    let ended = fleetwire(["run", "--devices", "2", "--json", &file]).expect_code(3);
    assert!(ended.stderr.contains(&file), "{}", ended.stderr);
}

#[test]
fn a_dry_run_checks_everything_and_dials_nobody() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let ended = fleetwire([
        "run",
        "--dry-run",
        "--broker",
        &url,
        "--devices",
        "7",
        "--seed",
        "1",
    ])
    .expect_code(0);
    for part in [&url[..], "7, device-0 to device-6", "nothing was dialled"] {
        assert!(ended.stdout.contains(part), "no {part:?} in\n{}", ended.stdout);
    }
    let error = listener.accept().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "somebody dialled");

    let own = fleetwire(["run", "--dry-run"]).expect_code(0);
    assert!(own.stdout.contains("own endpoint"), "{}", own.stdout);
    // What would refuse the run refuses the dry run.
    let missing = [
        "run",
        "--dry-run",
        "--broker",
        "mqtts://127.0.0.1:1",
        "--insecure",
        "--identities",
        "/nowhere",
    ];
    fleetwire(missing).expect_code(3);
}

/// Nothing is dialled here: the plan says what AWS's own builders would do on port 443.
#[test]
fn aws_on_port_443_gets_its_alpn_and_says_so() {
    // A literal address stands in for the name, which nobody has to resolve.
    let host = "abc-ats.iot.eu-west-1.amazonaws.com";
    let url = format!("mqtts://{host}:443");
    let arguments = [
        "run",
        "--dry-run",
        "--insecure",
        "--broker",
        &url,
        "--connect-to",
        "127.0.0.1:1",
    ];
    let ended = fleetwire(arguments).expect_code(0);
    assert!(ended.stdout.contains("ALPN x-amzn-mqtt-ca"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("note:") && ended.stderr.contains(host),
        "{}",
        ended.stderr
    );
    let ended = fleetwire([&arguments[..], &["--username", "ann"]].concat()).expect_code(0);
    assert!(ended.stdout.contains("ALPN mqtt"), "{}", ended.stdout);
    // Port 8883 needs none.
    let url = format!("mqtts://{host}");
    let arguments = [
        "run",
        "--dry-run",
        "--insecure",
        "--broker",
        &url,
        "--connect-to",
        "127.0.0.1:1",
    ];
    let ended = fleetwire(arguments).expect_code(0);
    assert!(ended.stdout.contains("ALPN none"), "{}", ended.stdout);
}

/// /dev/full takes everything and keeps nothing.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    for arguments in [
        &["run", "--dry-run"][..],
        &["run", "--devices", "1", "--duration", "0s"],
    ] {
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" > /dev/full", PROGRAM])
            .args(arguments);
        let ended = Running::start(command).end().expect_code(1);
        assert!(
            ended.stderr.contains("cannot be written to stdout"),
            "{}",
            ended.stderr
        );
    }
}

/// Fewer descriptors than even the program itself needs.
#[test]
fn hardly_any_descriptors_are_a_refused_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = text(&directory.path().join("result.json"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 5 && exec \"$0\" \"$@\"", PROGRAM]);
    command.args(["run", "--devices", "1", "--json", &file]);
    let ended = Running::start(command).end().expect_code(3);
    assert!(ended.stderr.contains("open_files"), "{}", ended.stderr);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(json["error"]["slug"], "open_files");
}
