"""Our endpoint as the one that is tested: a process of the test's own, and certificates of its CA."""

import importlib.util
import re
import unittest
from pathlib import Path

from harness import FLEETWIRE, Identity, InteropTest, run_tool

USER = ("ann", "s\u00e9cret")


class EndpointTest(InteropTest):
    """A test with an endpoint, which has to end well once asked to: exit code 0, its counts, no panic."""

    def serve(self, listen="127.0.0.1:0", user=USER, max_qos=1):
        options = ["--user", ":".join(user)] if user else []
        argv = [FLEETWIRE, "endpoint", "--listen", listen, "--plain", "127.0.0.1:0", "--state", self.dir / "state"]
        # Two endpoints of a test do not write into one log.
        process = self.process(f"endpoint-qos{max_qos}", *argv, "--max-qos", str(max_qos), *options)
        self.addCleanup(self.ends_well, process)
        process.port = int(process.wait_for(r"^listening on \S+:(\d+) with TLS")[1])
        process.plain_port = int(process.wait_for(r"^listening on \S+:(\d+) without TLS")[1])
        process.ca = self.dir / "state/ca.crt"
        return process

    def ends_well(self, process):
        self.assertTrue(process.alive(), f"the endpoint has ended:\n{process.text()}")
        process.stop()
        text = process.text()
        self.assertEqual(process.child.returncode, 0, text)
        self.assertRegex(text, r"(?m)^ended: ")
        self.assertNotIn("panicked", text)

    def device(self, name="device-0", *options, state="state"):
        """A certificate of the endpoint's CA; of a stranger when `state` names another directory."""
        out = self.dir / f"devices-of-{state}"
        if not (out / f"{name}.crt").exists():
            command = [FLEETWIRE, "certs", "issue", "--state", self.dir / state, "--out", out, "--client-id", name]
            run_tool(*command, *options)
        return Identity(out / f"{name}.crt", out / f"{name}.key")


def resident_bytes(process):
    """The memory that a process has."""
    status = Path(f"/proc/{process.child.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def require_package(name):
    """Skips the class when a package from PyPI is not there."""
    if importlib.util.find_spec(name) is None:
        raise unittest.SkipTest(f"the Python package {name} is not installed")
