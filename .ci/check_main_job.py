"""Checks the JSON of a `fleetwire run` without a broker: python3 check_main_job.py FILE DEVICES"""

import json
import sys

path, devices = sys.argv[1], int(sys.argv[2])
with open(path, encoding="utf-8") as file:
    run = json.load(file)

FIELDS = """schema version command seed started_at interrupted endpoint phases devices connected connected_at_end
failed failures alpn tls_version connect_seconds scheduled published acknowledged received lost missed disconnects
reconnects connect_latency_us ack_latency_us cpu_seconds rss_bytes rss_bytes_per_device bytes_copied driver
overloaded""".split()

wrong = [f"{name} is missing" for name in FIELDS if name not in run]


def expect(name, wanted):
    if run.get(name) != wanted:
        wrong.append(f"{name} is {run.get(name)!r}, expected {wanted!r}")


expect("interrupted", False)
expect("endpoint", "child")
expect("devices", devices)
expect("connected", devices)
expect("connected_at_end", devices)
expect("failed", 0)
expect("failures", {})
expect("alpn", {"x-amzn-mqtt-ca": devices})
expect("lost", 0)
expect("acknowledged", run.get("published"))
expect("driver", "mio")
if run.get("scheduled") != run.get("published", 0) + run.get("missed", 0):
    wrong.append("scheduled is not published + missed")
# One publish a second each for ten seconds of hold, and some while the others connect.
if run.get("published", 0) < 9 * devices:
    wrong.append(f"only {run.get('published')} publishes")

for line in wrong:
    print(line)
latency = run.get("ack_latency_us") or {}
print(f"{run.get('connected')} connected, {run.get('acknowledged')} acknowledged, p99 {latency.get('p99')} us")
sys.exit(1 if wrong else 0)
