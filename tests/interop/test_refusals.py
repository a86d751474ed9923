"""Every way to be turned away: the exact slug, and words that a person can act on."""

import ctypes
import ctypes.util
import functools
import shutil
import socket
import ssl
import struct
import time
from harness import EXPIRED, FLEETWIRE, NOT_YET_VALID, Fleet, InteropTest, Pki, free_port, run_tool, wait_until
from test_servers import AWS_NAME, devices, pki, scratch, server

DEVICES = 3


@functools.cache
def stranger():
    """A CA that nobody trusts, and its device-0."""
    authority = Pki(scratch() / "stranger", name="Stranger CA")
    authority.device("device-0")
    return authority


class RefusalTest(InteropTest):
    def refused(self, slug, words, *options, devices=DEVICES, timeout="3s"):
        """Runs a fleet none of which may connect, each device for `slug`; its line has to have all the words."""
        run = self.fleet(
            *("--devices", devices, "--duration", "100ms", "--drain", "1s", "--reconnect", "off"),
            *("--connect-timeout", timeout, *options),
        )
        self.assertIsNotNone(run.json, run)
        self.assertEqual(run.json["failures"], {slug: devices}, run)
        self.assertEqual((run.json["connected"], run.json["failed"]), (0, devices), run)
        self.assertEqual(run.code, 1, run)
        # The ramp ends when the last device is decided; none waits for another.
        self.assertLess(run.json["phases"]["ramp_seconds"], float(timeout.removesuffix("s")) + 3, run)
        self.said(run, slug, *words)
        return run

    def said(self, run, slug, *words):
        """The summary has one line for the cause, with the slug and these words."""
        lines = [line.strip() for line in run.summary.splitlines() if line.strip().startswith(f"{slug} ")]
        self.assertEqual(len(lines), 1, run)
        for word in words:
            self.assertIn(word.lower(), lines[0].lower(), run)

    def trusting(self, *options, kind="ec"):
        return ("--ca", pki(kind).ca.certificate, *options)

    def tls_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server("ec").certificate, server("ec").key)
        return context


def read_until_closed(link):
    while link.recv(4096):
        pass


def reset(link):
    """Closes with a reset."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def select_alpn(name):
    """A script: a TLS server that selects this name, whatever is offered. Python's ssl module cannot do that."""
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    pointer = ctypes.c_void_p
    library.TLS_server_method.restype = library.SSL_CTX_new.restype = library.SSL_new.restype = pointer
    library.SSL_CTX_new.argtypes = library.SSL_new.argtypes = [pointer]
    for use in (library.SSL_CTX_use_certificate_file, library.SSL_CTX_use_PrivateKey_file):
        use.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int]
    selection = ctypes.CFUNCTYPE(
        *(ctypes.c_int, pointer, ctypes.POINTER(pointer), ctypes.POINTER(ctypes.c_ubyte)),
        *(pointer, ctypes.c_uint, pointer),
    )
    library.SSL_CTX_set_alpn_select_cb.argtypes = [pointer, selection, pointer]
    library.SSL_set_fd.argtypes = [pointer, ctypes.c_int]
    library.SSL_accept.argtypes = [pointer]

    chosen = ctypes.create_string_buffer(name, len(name))

    @selection
    def select(_ssl, out, out_len, _offered, _offered_len, _arg):
        out[0], out_len[0] = ctypes.addressof(chosen), len(name)
        return 0

    context = library.SSL_CTX_new(library.TLS_server_method())
    pem = 1
    assert library.SSL_CTX_use_certificate_file(context, str(server("ec").certificate).encode(), pem) == 1
    assert library.SSL_CTX_use_PrivateKey_file(context, str(server("ec").key).encode(), pem) == 1
    library.SSL_CTX_set_alpn_select_cb(context, select, None)

    def script(link):
        link.settimeout(None)
        session = library.SSL_new(context)
        library.SSL_set_fd(session, link.fileno())
        # What the callback needs has to outlive the handshake.
        script.keep = (select, chosen)
        library.SSL_accept(session)
        read_until_closed(link)

    return script


class Transport(RefusalTest):
    """Before TLS."""

    def test_connection_refused(self):
        for scheme in ("mqtt", "mqtts"):
            with self.subTest(scheme):
                port = free_port()
                options = self.trusting() if scheme == "mqtts" else ()
                self.refused(
                    "tcp_refused", [f"127.0.0.1:{port}", "nothing listens"], "--broker", f"{scheme}://127.0.0.1:{port}", *options
                )

    def test_port_that_never_answers(self):
        """A listener whose backlog is full drops every SYN, as a firewall does."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            link = socket.socket()
            link.setblocking(False)
            link.connect_ex(("127.0.0.1", port))
            waiting.append(link)
            self.addCleanup(link.close)
        probe = socket.socket()
        self.addCleanup(probe.close)
        probe.settimeout(0.5)
        self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0, "the backlog is not full")
        self.refused(
            "tcp_timeout",
            [f"127.0.0.1:{port}", "no answer", "firewall", "443"],
            *("--broker", f"mqtts://127.0.0.1:{port}", *self.trusting()),
            timeout="1s",
        )

    def test_host_name_that_does_not_exist(self):
        run = self.fleet("--broker", "mqtt://no-such-host.invalid", "--devices", 1, "--duration", "100ms")
        self.assertEqual(run.code, 3, run)
        self.assertEqual(run.json["error"]["slug"], "dns_failed", run)
        self.assertIn("no-such-host.invalid", run.json["error"]["text"])

    def test_silence_in_place_of_tls(self):
        peer = self.scripted(read_until_closed)
        self.refused(
            "tls_timeout", ["TLS", "port"], "--broker", f"mqtts://127.0.0.1:{peer.port}", *self.trusting(), timeout="1s"
        )

    def test_silence_in_place_of_connack(self):
        for scheme, context in (("mqtt", None), ("mqtts", self.tls_context())):
            with self.subTest(scheme):
                peer = self.scripted(read_until_closed, context)
                options = self.trusting() if context else ()
                broker = ("--broker", f"{scheme}://127.0.0.1:{peer.port}")
                run = self.refused("connack_timeout", ["CONNACK"], *broker, *options, timeout="1s")
                if not context:
                    self.assertNotIn("TLS works", run.summary)

    def test_reset_before_tls(self):
        def script(link):
            link.recv(1)
            reset(link)

        peer = self.scripted(script)
        self.refused("tcp_reset", ["reset", "proxy or firewall"], "--broker", f"mqtts://127.0.0.1:{peer.port}", *self.trusting())

    def test_close_in_place_of_tls(self):
        peer = self.scripted(lambda link: link.recv(65536))
        self.refused(
            "closed_in_handshake", ["without an alert"], "--broker", f"mqtts://127.0.0.1:{peer.port}", *self.trusting()
        )

    def test_close_in_place_of_connack(self):
        peer = self.scripted(lambda link: link.recv(65536))
        self.refused("closed_before_connack", ["closed", "CONNACK"], "--broker", f"mqtt://127.0.0.1:{peer.port}")

    def test_garbage_in_place_of_tls(self):
        for garbage in (b"SSH-2.0-OpenSSH_9.2p1\r\n", bytes(range(128, 256)), b"\0" * 64):
            with self.subTest(garbage[:8]):

                def script(link):
                    link.sendall(garbage)
                    read_until_closed(link)

                peer = self.scripted(script)
                self.refused(
                    "not_tls", ["does not speak TLS", "mqtt://"], "--broker", f"mqtts://127.0.0.1:{peer.port}", *self.trusting()
                )

    def test_http_in_place_of_tls(self):
        port = free_port()
        self.nginx(http=f"server {{ listen 127.0.0.1:{port}; }}", ports=[port])
        self.refused(
            "not_tls", ["does not speak TLS", "HTTP/1.1 400", "mqtt://"], "--broker", f"mqtts://127.0.0.1:{port}", *self.trusting()
        )

    def test_http_in_place_of_mqtt(self):
        """nginx answers a CONNECT with `HTTP/1.1 400`, whose first byte is a SUBACK's type with bits that none has."""
        port = free_port()
        self.nginx(http=f"server {{ listen 127.0.0.1:{port}; }}", ports=[port])
        self.refused("not_mqtt", ["this is HTTP", "port"], "--broker", f"mqtt://127.0.0.1:{port}")

    def test_mqtt_to_a_tls_port(self):
        """mosquitto's TLS listener answers a CONNECT with nothing but a close, or with an alert that is no MQTT."""
        broker = self.mosquitto(tls=server("ec"))
        run = self.fleet(
            *("--broker", f"mqtt://127.0.0.1:{broker.port}", "--devices", DEVICES, "--duration", "100ms", "--reconnect", "off")
        )
        self.assertEqual((run.code, run.json["failed"]), (1, DEVICES), run)
        self.assertIn(list(run.json["failures"]), (["not_mqtt"], ["closed_before_connack"]), run)

    def test_tls_to_an_mqtt_port(self):
        """The commonest slip. mosquitto closes with the hello unread, which the system makes a reset."""
        broker = self.mosquitto()
        run = self.fleet(
            *("--broker", f"mqtts://127.0.0.1:{broker.port}", *self.trusting(), "--devices", DEVICES),
            *("--duration", "100ms", "--reconnect", "off"),
        )
        self.assertEqual((run.code, run.json["failed"]), (1, DEVICES), run)
        for slug in run.json["failures"]:
            self.assertIn(slug, ("tcp_reset", "closed_in_handshake"), run)
            self.said(run, slug, "during the TLS handshake", "port")


class Alpn(RefusalTest):
    def offered(self, port, slug, *words, tls=None):
        options = ("--alpn", AWS_NAME, *self.trusting(), *(("--tls", tls) if tls else ()))
        return self.refused(slug, [AWS_NAME, *words], "--broker", f"mqtts://localhost:{port}", *options)

    def test_mosquitto_ignores_it(self):
        broker = self.mosquitto(tls=server("ec"))
        self.offered(broker.port, "alpn_not_selected", "chose none", "Interop CA", f"drop {AWS_NAME}")
        self.assertNotIn("New client connected", broker.text(), "closed before any MQTT byte")

    def test_nginx_without_ssl_alpn_ignores_it(self):
        port = free_port()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {server('ec').certificate};"
            f" ssl_certificate_key {server('ec').key}; ssl_protocols TLSv1.2 TLSv1.3; return x; }}",
            ports=[port],
        )
        self.offered(port, "alpn_not_selected", "chose none", "Interop CA")

    def test_server_that_selects_another(self):
        """No server does that by itself: OpenSSL with a selection of ours."""
        for version in ("1.2", "1.3"):
            with self.subTest(version):
                peer = self.scripted(select_alpn(b"h2"))
                run = self.offered(peer.port, "alpn_not_selected", "chose h2", tls=version)
                self.assertEqual(peer.errors, [], run)

    def test_alert_120_of_nginx(self):
        port = free_port()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {server('ec').certificate};"
            f" ssl_certificate_key {server('ec').key}; ssl_alpn h2 http/1.1; return x; }}",
            ports=[port],
        )
        self.offered(port, "alpn_refused", "alert 120", "does not serve")

    def test_alert_120_of_openssl(self):
        for version in ("-tls1_2", "-tls1_3"):
            with self.subTest(version):
                port = free_port()
                argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", server("ec").certificate]
                peer = self.process(f"s_server{version}", *argv, "-key", server("ec").key, "-alpn", "h2", version)
                peer.wait_for("^ACCEPT")
                self.offered(port, "alpn_refused", "alert 120", "does not serve")

    def test_alert_120_of_the_endpoint(self):
        endpoint = self.endpoint()
        self.refused(
            "alpn_refused",
            ["h2", "alert 120"],
            *("--broker", f"mqtts://localhost:{endpoint.port}?alpn=h2", "--ca", endpoint.state / "ca.crt"),
        )

    def test_endpoint_closes_without_alpn(self):
        endpoint = self.endpoint()
        self.refused(
            "closed_before_connack",
            ["ALPN"],
            *("--broker", f"mqtts://localhost:{endpoint.port}", "--ca", endpoint.state / "ca.crt"),
        )


class ServerCertificate(RefusalTest):
    def shown(self, identity, slug, words, *options, host="localhost"):
        broker = self.mosquitto(tls=identity)
        self.refused(slug, words, "--broker", f"mqtts://{host}:{broker.port}", *self.trusting(*options))

    def test_by_a_stranger(self):
        self.shown(stranger().server(), "server_ca_unknown", ["CN=Stranger CA", "--ca"])

    def test_self_signed(self):
        identity = stranger().directory / "self.crt", stranger().directory / "self.key"
        run_tool(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", identity[1], "-out", identity[0]),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:false"),
        )
        broker = self.mosquitto(f"certfile {identity[0]}", f"keyfile {identity[1]}")
        self.refused(
            "server_ca_unknown", ["CN=localhost", "--ca"], "--broker", f"mqtts://localhost:{broker.port}", *self.trusting()
        )

    def test_expired(self):
        identity = pki("ec").server("expired", dates=EXPIRED)
        self.shown(identity, "server_cert_expired", ["2021", "this clock", "Renew the broker's certificate"])

    def test_not_yet_valid(self):
        identity = pki("ec").server("not-yet", dates=NOT_YET_VALID)
        self.shown(identity, "server_cert_not_yet_valid", ["2040", "clock"])

    def test_for_another_name(self):
        identity = pki("ec").server("other", names=("DNS:broker.example", "DNS:*.iot.example"))
        self.shown(identity, "server_name_mismatch", ["not for localhost", "broker.example", "--sni"])

    def test_for_another_address(self):
        identity = pki("ec").server("names-only", names=("DNS:localhost",))
        self.shown(identity, "server_name_mismatch", ["not for 127.0.0.1", "localhost", "--sni"], host="127.0.0.1")

    def test_sni_that_it_does_not_carry(self):
        self.shown(server("ec"), "server_name_mismatch", ["not for broker.example", "localhost"], "--sni", "broker.example")

    def test_for_clients_only(self):
        identity = pki("ec").issue("not-a-server", "extendedKeyUsage=clientAuth", "subjectAltName=DNS:localhost")
        self.shown(identity, "server_cert_invalid", ["issued anew"])


class ClientCertificate(RefusalTest):
    """What the server says about ours: by an alert, or by nothing but a close after the handshake."""

    # The fleet itself refuses to start with an expired certificate: the servers' clocks are ahead instead.
    AHEAD = {"expired": "10d"}
    # By an alert, under TLS 1.3 and 1.2: mosquitto and `openssl s_server` are both OpenSSL.
    SAID = {
        "missing": ("client_cert_required", ["alert 116", "--identities", "--cert"]),
        "expired": ("client_cert_expired", ["alert 45", "Renew"]),
        "stranger": ("client_cert_unknown_ca", ["alert 48", "CA that signed"]),
    }
    # TLS 1.2 has no alert for it but handshake_failure (RFC 5246 section 7.4.6).
    MISSING_1_2 = ("tls_handshake_failure", ["alert 40", "client certificate"])

    def identity(self, case):
        if case == "missing":
            return ()
        device = (stranger() if case == "stranger" else devices("ec")).directory / "device-0"
        return ("--cert", f"{device}.crt", "--key", f"{device}.key")

    def expected(self, case, tls):
        return self.MISSING_1_2 if (case, tls) == ("missing", "1.2") else self.SAID[case]

    def each(self, case, port, *options):
        for tls in ("1.3", "1.2"):
            with self.subTest(tls):
                slug, words = self.expected(case, tls)
                broker = ("--broker", f"mqtts://localhost:{port}", "--tls", tls)
                self.refused(slug, words, *broker, *self.trusting(*self.identity(case)), *options)

    def mosquitto_says(self, case):
        broker = self.mosquitto(tls=server("ec"), ca=devices("ec").ca.certificate, ahead=self.AHEAD.get(case))
        self.each(case, broker.port)

    def test_missing_at_mosquitto(self):
        self.mosquitto_says("missing")

    def test_expired_at_mosquitto(self):
        self.mosquitto_says("expired")

    def test_stranger_at_mosquitto(self):
        self.mosquitto_says("stranger")

    def openssl_says(self, case):
        port = free_port()
        argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", server("ec").certificate, "-key", server("ec").key]
        argv += ["-CAfile", devices("ec").ca.certificate, "-Verify", "1", "-verify_return_error"]
        peer = self.process("s_server", *argv, ahead=self.AHEAD.get(case))
        peer.wait_for("^ACCEPT")
        self.each(case, port)

    def test_missing_at_openssl(self):
        self.openssl_says("missing")

    def test_expired_at_openssl(self):
        self.openssl_says("expired")

    def test_stranger_at_openssl(self):
        self.openssl_says("stranger")

    def endpoint_says(self, case):
        endpoint = self.endpoint()
        identity = self.identity(case)
        if case == "expired":
            # By the endpoint's own CA, so that the date is all that is wrong.
            out = self.dir / "ours"
            tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400))
            run_tool(FLEETWIRE, "certs", "issue", "--state", endpoint.state, "--out", out, "--not-after", tomorrow)
            identity = ("--cert", out / "device-0.crt", "--key", out / "device-0.key")
            endpoint.stop()
            endpoint = self.endpoint(state=endpoint.state, ahead=self.AHEAD[case])
        for tls in ("1.3", "1.2"):
            with self.subTest(tls):
                slug, words = self.SAID[case]
                if (case, tls) == ("missing", "1.2"):
                    # rustls sends certificate_required under TLS 1.2 too, or handshake_failure.
                    words = ["client certificate"]
                self.refused(
                    *(slug, words, "--broker", f"mqtts://localhost:{endpoint.port}?alpn={AWS_NAME}", "--tls", tls),
                    *("--ca", endpoint.state / "ca.crt", *identity),
                )

    def test_missing_at_the_endpoint(self):
        self.endpoint_says("missing")

    def test_expired_at_the_endpoint(self):
        self.endpoint_says("expired")

    def test_stranger_at_the_endpoint(self):
        self.endpoint_says("stranger")

    def nginx_says_nothing(self, case):
        """nginx lets everybody finish the handshake, and closes without a word when it did not like the certificate."""
        broker, port = self.mosquitto(), free_port()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {server('ec').certificate};"
            f" ssl_certificate_key {server('ec').key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_alpn {AWS_NAME};"
            f" ssl_client_certificate {devices('ec').ca.certificate}; ssl_verify_client on;"
            f" proxy_pass 127.0.0.1:{broker.port}; }}",
            ports=[port],
            ahead=self.AHEAD.get(case),
        )
        for tls in ("1.3", "1.2"):
            with self.subTest(tls):
                words = ["CONNACK", "certificate", "None got in"]
                if case == "missing":
                    words.append("--identities")
                self.refused(
                    *("closed_before_connack", words, "--broker", f"mqtts://localhost:{port}?alpn={AWS_NAME}", "--tls", tls),
                    *self.trusting(*self.identity(case)),
                )

    def test_missing_at_nginx(self):
        self.nginx_says_nothing("missing")

    def test_expired_at_nginx(self):
        self.nginx_says_nothing("expired")

    def test_stranger_at_nginx(self):
        self.nginx_says_nothing("stranger")

    def test_one_stranger_among_many(self):
        """One of 20 identities is a stranger's: 19 connect, one is named."""
        out = self.dir / "identities"
        out.mkdir()
        for index in range(20):
            source = stranger().directory / "device-0" if index == 7 else devices("ec").directory / f"device-{index}"
            for kind in ("crt", "key"):
                shutil.copy(f"{source}.{kind}", out / f"device-{index}.{kind}")
        broker = self.mosquitto(tls=server("ec"), ca=devices("ec").ca.certificate)
        run = self.fleet(
            *("--broker", f"mqtts://localhost:{broker.port}", *self.trusting(), "--identities", out, "--devices", 20),
            *("--duration", "1s", "--period", "200ms", "--reconnect", "off"),
        )
        self.assertEqual((run.json["connected"], run.json["failed"], run.code), (19, 1, 1), run)
        self.assertEqual(run.json["failures"], {"client_cert_unknown_ca": 1}, run)
        self.assertEqual((run.json["lost"], run.json["acknowledged"]), (0, run.json["published"]), run)
        self.said(run, "client_cert_unknown_ca", "first device-7")


class Keys(RefusalTest):
    """Found before the first dial: nothing is started."""

    def not_started(self, words, *options):
        run = self.fleet("--broker", "mqtts://localhost:1", *self.trusting(), "--devices", 1, *options)
        self.assertEqual(run.code, 3, run)
        self.assertEqual(run.json["error"]["slug"], "identities", run)
        for word in words:
            self.assertIn(word.lower(), run.json["error"]["text"].lower(), run)
        self.assertIn("refused to start", run.progress + run.summary, run)

    def test_expired_certificate(self):
        identity = devices("ec").device("expired", dates=EXPIRED)
        self.not_started(["expired.crt", "2021", "renew"], "--cert", identity.certificate, "--key", identity.key)

    def test_key_of_another_certificate(self):
        home = devices("ec").directory
        options = ("--cert", home / "device-0.crt", "--key", home / "device-1.key")
        self.not_started(["device-1.key", "device-0.crt"], *options)

    def test_key_of_another_kind(self):
        options = ("--cert", devices("ec").directory / "device-0.crt", "--key", pki("rsa").ca.key)
        self.not_started(["device-0.crt"], *options)

    def test_swapped_files(self):
        home = devices("ec").directory
        self.not_started(["device-0.key", "private key"], "--cert", home / "device-0.key", "--key", home / "device-0.crt")

    def test_missing_file(self):
        self.not_started(["no-such.crt"], "--cert", "no-such.crt", "--key", devices("ec").directory / "device-0.key")
