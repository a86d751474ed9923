"""What the tests of foreign peers share: processes, ports, certificates, brokers, runs of the fleet.

Nothing here sleeps for a while and hopes: `wait_until` looks for a condition until a deadline.
"""

import atexit
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

WORK = Path(os.environ.get("INTEROP_WORK", "target/interop")).resolve()
FLEETWIRE = os.environ.get("FLEETWIRE", "target/release/fleetwire")
DEADLINE = 20.0
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def wait_until(condition, what, deadline=DEADLINE):
    """Returns the first true value of `condition()`; fails when there is none within `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(0.01)


def free_port():
    """A port for a server that cannot choose one itself, from below the range that clients are given."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def accepts(port):
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run_tool(*argv, **options):
    """Runs a program that has to succeed; returns its output."""
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=60, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


# Stopped at the latest when the tests are broken off.
RUNNING = set()


@atexit.register
def stop_all():
    for process in list(RUNNING):
        process.stop()


class Process:
    """A program in the background, both its outputs in one log that a second start appends to."""

    def __init__(self, log, *argv):
        self.log, self.argv = Path(log), [str(arg) for arg in argv]
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            # Its input stays open: `openssl s_server` ends with it.
            self.child = subprocess.Popen(
                self.argv, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        RUNNING.add(self)

    def text(self):
        return self.log.read_text(errors="replace")

    def alive(self):
        return self.child.poll() is None

    def wait_for(self, pattern, deadline=DEADLINE):
        """Returns the match of a pattern in the log, as soon as it is there."""

        def found():
            match = re.search(pattern, self.text(), re.MULTILINE)
            assert match or self.alive(), f"{self.argv[0]} ended before {pattern!r} was logged:\n{self.text()}"
            return match

        return wait_until(found, f"{pattern!r} in {self.log.name}", deadline)

    def wait_listening(self, port):
        def listening():
            assert self.alive(), f"{self.argv[0]} ended:\n{self.text()}"
            return accepts(port)

        wait_until(listening, f"{self.argv[0]} listens on {port}")
        return self

    def wait(self, deadline=DEADLINE):
        """Returns the exit code."""
        return self.child.wait(deadline)

    def stop(self, how=signal.SIGTERM):
        """Ends it with what it started itself: `faketime` stays its program's parent."""
        if self.alive():
            os.killpg(self.child.pid, how)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait(5)
        self.child.stdin.close()
        RUNNING.discard(self)


class Identity:
    """The files of a certificate and its key."""

    def __init__(self, certificate, key):
        self.certificate, self.key = Path(certificate), Path(key)


class Pki:
    """A CA made by openssl, and what it issues; `kind` is the kind of all its keys, `ec` or `rsa`.

    One chain has one kind: peers that offer signatures of one kind alone have been seen to refuse mixed ones.
    """

    NEW_KEY = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["-newkey", "rsa:2048"]}

    def __init__(self, directory, kind="ec", name="Interop CA", parent=None):
        """`parent` makes it an intermediate one: it stands behind every certificate that it issues."""
        self.directory, self.kind, self.parent = Path(directory), kind, parent
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca = Identity(self.directory / "ca.crt", self.directory / "ca.key")
        signer = ["-CA", parent.ca.certificate, "-CAkey", parent.ca.key] if parent else []
        extensions = ["basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign"]
        self.request(self.ca, ["-x509", "-days", "2", *signer, *self.NEW_KEY[kind]], name, extensions)

    def request(self, identity, options, name, extensions):
        config = self.directory / "req.cnf"
        if not config.exists():
            config.write_text("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=x\n")
        extras = [arg for extension in extensions for arg in ("-addext", extension)]
        key = [] if "-key" in options else ["-keyout", identity.key, "-nodes"]
        run_tool("openssl", "req", "-config", config, *options, *key, "-out", identity.certificate, "-subj", f"/CN={name}", *extras)
        return identity

    def issue(self, name, *extensions, dates=None, key=None):
        """Issues `NAME.crt` and `NAME.key`; `dates` is (start, end) as 20200101000000Z, `key` a key to use again."""
        identity = Identity(self.directory / f"{name}.crt", key or self.directory / f"{name}.key")
        source = ["-key", key] if key else self.NEW_KEY[self.kind]
        if dates is None:
            signed = ["-x509", "-days", "2", "-CA", self.ca.certificate, "-CAkey", self.ca.key]
            self.request(identity, [*signed, *source], name, ["basicConstraints=critical,CA:false", *extensions])
            if self.parent:
                chain = identity.certificate.read_text() + self.ca.certificate.read_text()
                identity.certificate.write_text(chain)
            return identity
        wanted = Identity(self.directory / f"{name}.csr", identity.key)
        self.request(wanted, ["-new", *source], name, extensions)
        config = self.directory / "ca.cnf"
        config.write_text(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=any\ncopy_extensions=copyall\nunique_subject=no\nemail_in_dn=no\n[any]\ncommonName=supplied\n"
        )
        (self.directory / "index.txt").touch()
        run_tool(
            *("openssl", "ca", "-batch", "-notext", "-config", config.name, "-cert", "ca.crt", "-keyfile", "ca.key"),
            *("-startdate", dates[0], "-enddate", dates[1], "-in", wanted.certificate.name, "-out", identity.certificate.name),
            cwd=self.directory,
        )
        return identity

    def server(self, name="localhost", names=("DNS:localhost", "IP:127.0.0.1"), **options):
        return self.issue(name, "extendedKeyUsage=serverAuth", f"subjectAltName={','.join(names)}", **options)

    def device(self, name, **options):
        return self.issue(name, "extendedKeyUsage=clientAuth", **options)


EXPIRED = ("20200101000000Z", "20210101000000Z")
NOT_YET_VALID = ("20400101000000Z", "20410101000000Z")


class Scripted:
    """A listener whose connections, one thread each, do what a function of the socket says."""

    def __init__(self, script, context=None, port=0):
        self.script, self.context, self.errors, self.accepted = script, context, [], 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        link.settimeout(DEADLINE)
        try:
            if self.context:
                link = self.context.wrap_socket(link, server_side=True)
            self.script(link)
        except OSError as error:
            self.errors.append(error)
        finally:
            link.close()

    def close(self):
        if self.listener.fileno() >= 0:
            # It wakes the thread that waits in accept.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()


class Run:
    """What a `fleetwire run` left: `code`, `json` (None when there is none), `summary`, `progress`."""

    def __init__(self, command, code, summary, progress, report):
        self.command, self.code, self.summary, self.progress, self.json = command, code, summary, progress, report

    def __str__(self):
        return f"{' '.join(self.command)}\nended with {self.code}\n{self.summary}\n{self.progress}"


class Fleet:
    """A `fleetwire run` in the background; `end` gives its Run."""

    def __init__(self, directory, *options):
        self.report = Path(tempfile.mkstemp(dir=directory, suffix=".json")[1])
        self.report.unlink()
        self.command = [FLEETWIRE, "run", *map(str, options), "--json", str(self.report)]
        self.out, self.err = self.report.with_suffix(".out"), self.report.with_suffix(".err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def progress(self):
        """The lines on stderr so far: one every three seconds."""
        return self.err.read_text()

    def end(self, deadline=60):
        late = ""
        try:
            self.child.wait(deadline)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            late = f"did not end within {deadline} s"
        report = json.loads(self.report.read_text()) if self.report.exists() else None
        run = Run(self.command, self.child.returncode, self.out.read_text(), self.progress(), report)
        assert not late, f"{run}\n{late}"
        return run


class InteropTest(unittest.TestCase):
    """A test with a directory of its own, whose processes end with it."""

    longMessage = True
    maxDiff = None

    def setUp(self):
        (WORK / "tests").mkdir(parents=True, exist_ok=True)
        self.dir = Path(tempfile.mkdtemp(dir=WORK / "tests", prefix=f"{self._testMethodName}."))
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.logs = []

    def require(self, *programs):
        """Skips the test when one of the programs is not there."""
        for program in programs:
            if not shutil.which(program):
                self.skipTest(f"{program} is not installed")

    def process(self, name, *argv, ahead=None):
        """Starts a program; `ahead` sets its clock, as `10d`."""
        if ahead:
            self.require("faketime")
            argv = ("env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", f"+{ahead}", *argv)
        self.logs.append(self.dir / f"{name}.log")
        process = Process(self.dir / f"{name}.log", *argv)
        self.addCleanup(process.stop)
        return process

    def scripted(self, script, context=None):
        server = Scripted(script, context)
        self.addCleanup(server.close)
        return server

    def endpoint(self, *options, state=None, ahead=None):
        """Our endpoint; `.port` and `.plain_port` are its listeners, `.state` holds its CA."""
        state = state or self.dir / "state"
        argv = [FLEETWIRE, "endpoint", "--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0", "--state", state, *options]
        process = self.process(f"endpoint{len(self.logs)}", *argv, ahead=ahead)
        process.port = int(process.wait_for(r"^listening on 127\.0\.0\.1:(\d+) with TLS")[1])
        process.plain_port = int(process.wait_for(r"^listening on 127\.0\.0\.1:(\d+) without TLS")[1])
        process.state = state
        return process

    def mosquitto(self, *settings, tls=None, ca=None, port=None, ahead=None):
        """mosquitto, with TLS when `tls` is its identity, and mutual TLS when `ca` is given too; `.port` is its port."""
        self.require("mosquitto")
        port = port or free_port()
        lines = [
            *(f"listener {port} 127.0.0.1", "log_dest stderr", "log_type all", "connection_messages true"),
            *("persistence false", "max_inflight_messages 0", "max_queued_messages 0"),
        ]
        if not any(setting.startswith("password_file") for setting in settings):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")
        if tls:
            lines += [f"certfile {tls.certificate}", f"keyfile {tls.key}"]
        if ca:
            lines += [f"cafile {ca}", "require_certificate true"]
        config = self.dir / f"mosquitto-{port}.conf"
        config.write_text("\n".join([*lines, *settings, ""]))
        process = self.process(f"mosquitto-{port}", "mosquitto", "-c", config, ahead=ahead)
        process.port = port
        return process.wait_listening(port)

    def nginx(self, stream="", http="", ports=(), ahead=None):
        """nginx with these contents of its stream and http blocks, once all ports listen."""
        self.require("nginx")
        if stream and not STREAM_MODULE.exists():
            self.skipTest("nginx's stream module is not installed")
        home = Path(tempfile.mkdtemp(dir=self.dir, prefix="nginx."))
        lines = ["daemon off;", "worker_processes 1;", f"pid {home}/pid;", f"error_log {home}/error.log info;"]
        if stream:
            lines = [f"load_module {STREAM_MODULE};", *lines, f"stream {{\n{stream}\n}}"]
        if http:
            scratch = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            lines.append(f"http {{\naccess_log {home}/access.log;\n{scratch}{http}\n}}")
        if os.geteuid() == 0:
            lines.append("user root;")
        lines.append("events { worker_connections 4096; }")
        (home / "nginx.conf").write_text("\n".join(lines) + "\n")
        self.logs.append(home / "error.log")
        process = self.process(home.name, "nginx", "-p", home, "-e", home / "error.log", "-c", home / "nginx.conf", ahead=ahead)
        for port in ports:
            process.wait_listening(port)
        process.error_log = home / "error.log"
        return process

    def fleet(self, *options, deadline=60):
        """Runs the fleet to its end."""
        return Fleet(self.dir, *options).end(deadline)
