"""`openssl s_client` against our endpoint: ALPN, certificates, versions, suites, and the alert of each refusal."""

import re
import subprocess
import threading
import time

from clients import ALPN_CERTIFICATE, ALPN_PASSWORD, WAIT
from harness import wait_until
from ours import USER, EndpointTest

VERSIONS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}
# A 3.1.1 CONNECT of `device-0` with Clean Session, and a DISCONNECT, upon which the endpoint closes.
CONNECT = bytes.fromhex("1014 0004 4d515454 04 02 0000 0008") + b"device-0"
DISCONNECT = bytes.fromhex("e000")
CONNACK = bytes.fromhex("20020000")
# Return code 4: bad user name or password.
CONNACK_REFUSED = bytes.fromhex("20020004")

HANDSHAKE_FAILURE, CERTIFICATE_EXPIRED, UNKNOWN_CA, PROTOCOL_VERSION = 40, 45, 48, 70
CERTIFICATE_REQUIRED, NO_APPLICATION_PROTOCOL = 116, 120


def connect_with_password(password):
    """A 3.1.1 CONNECT with user name and password, and a DISCONNECT."""
    fields = [b"device-0", USER[0].encode(), password.encode()]
    body = bytes.fromhex("0004 4d515454 04 c2 0000") + b"".join(len(each).to_bytes(2, "big") + each for each in fields)
    return bytes([0x10, len(body)]) + body + DISCONNECT


class Handshake:
    """What s_client says about a connection."""

    def __init__(self, code, output):
        self.code, self.output = code, output
        # Without the dumps, which nobody reads.
        lines = output.decode("latin-1").splitlines(keepends=True)
        self.text = "".join(line for line in lines if not re.match(r"    ([0-9a-f]{2} ?)+\n", line))
        alpn = re.search(r"ALPN protocol: (.*)", self.text)
        self.alpn = alpn and alpn[1]
        self.asked = "CertificateRequest" in self.text
        self.names_our_ca = bool(re.search(r"Acceptable client certificate CA names\n.*CN ?= ?Fleetwire local CA", self.text))
        alert = re.search(r"SSL alert number (\d+)", self.text)
        self.alert = alert and int(alert[1])
        self.complete = "Cipher is (NONE)" not in self.text
        self.closed_properly = bool(re.search("<<< .* close_notify", self.text))
        self.connected = CONNACK in output


class TlsMatrix(EndpointTest):
    """openssl s_client."""

    def setUp(self):
        super().setUp()
        self.require("openssl")
        self.server = self.serve()

    def command(self, *options, alpn=None, identity=None, host="localhost"):
        target = ["-connect", f"{host}:{self.server.port}", "-CAfile", self.server.ca, "-msg", "-nocommands"]
        offer = ["-alpn", ",".join(alpn) if isinstance(alpn, list) else alpn] if alpn else []
        certificate = ["-cert", identity.certificate, "-key", identity.key] if identity else []
        return [str(each) for each in ("openssl", "s_client", *target, *offer, *certificate, *options)]

    def shake(self, *options, send=CONNECT + DISCONNECT, **offer):
        """Runs s_client until the endpoint closes; a hang is a failure."""
        command = self.command("-ign_eof", *options, **offer)
        done = subprocess.run(command, input=send, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT)
        return Handshake(done.returncode, done.stdout)

    def each_version(self, check):
        for name, option in VERSIONS.items():
            with self.subTest(f"TLS {name}"):
                check(option)

    def assert_in(self, shake, alpn=ALPN_CERTIFICATE):
        """The client is in: CONNACK over what was asked for, and a proper end."""
        self.assertTrue(shake.connected, shake.text)
        self.assertEqual((shake.alpn, shake.code, shake.alert), (alpn, 0, None), shake.text)
        self.assertTrue(shake.closed_properly, shake.text)

    def assert_out(self, shake, *alerts):
        """The endpoint has said why it ends the handshake."""
        self.assertFalse(shake.connected, shake.text)
        self.assertIn(shake.alert, alerts, shake.text)
        self.assertEqual(shake.code, 1, shake.text)

    def assert_serves(self):
        self.assert_in(self.shake(alpn=ALPN_CERTIFICATE, identity=self.device()))

    # ALPN and the certificate

    def test_the_right_name_with_a_certificate(self):
        def check(version):
            shake = self.shake(version, alpn=ALPN_CERTIFICATE, identity=self.device())
            self.assert_in(shake)
            self.assertTrue(shake.asked and shake.names_our_ca, shake.text)
            self.assertIn("Verify return code: 0 (ok)", shake.text)

        self.each_version(check)

    def test_the_right_name_without_a_certificate(self):
        def check(version):
            shake = self.shake(version, alpn=ALPN_CERTIFICATE)
            self.assertTrue(shake.asked and shake.names_our_ca, shake.text)
            # RFC 5246 section 7.4.6 has handshake_failure in 1.2; rustls says the clearer one in both.
            self.assert_out(shake, CERTIFICATE_REQUIRED)

        self.each_version(check)

    def test_a_wrong_name(self):
        wrong = ["h2", "http/1.1", "x-amzn-http-ca", "x-amzn-mqtt-c", "x-amzn-mqtt-caa", "X-AMZN-MQTT-CA", "mqtts", "MQTT"]

        def check(version):
            for alpn in [*wrong, wrong]:
                for identity in (None, self.device()):
                    shake = self.shake(version, alpn=alpn, identity=identity)
                    self.assert_out(shake, NO_APPLICATION_PROTOCOL)
                    self.assertFalse(shake.asked or shake.complete, shake.text)

        self.each_version(check)

    def test_no_name(self):
        """The handshake is completed, as one-port servers do it, and then closed: no MQTT, and no certificate asked for."""

        def check(version):
            for identity in (None, self.device()):
                shake = self.shake(version, identity=identity)
                self.assertTrue(shake.complete and not shake.asked and not shake.connected, shake.text)
                self.assertEqual((shake.alpn, shake.alert), (None, None), shake.text)
                self.assertTrue(shake.closed_properly, shake.text)

        self.each_version(check)

    def test_several_names(self):
        def check(version):
            for offered, chosen in (
                (["h2", ALPN_CERTIFICATE], ALPN_CERTIFICATE),
                (["h2", "http/1.1", "x-amzn-http-ca", ALPN_CERTIFICATE], ALPN_CERTIFICATE),
                ([ALPN_CERTIFICATE, "h2"], ALPN_CERTIFICATE),
                # The certificate comes first, whatever the client prefers.
                ([ALPN_PASSWORD, ALPN_CERTIFICATE], ALPN_CERTIFICATE),
                ([f"name-{index}" for index in range(300)] + [ALPN_CERTIFICATE], ALPN_CERTIFICATE),
                (["h2", ALPN_PASSWORD], ALPN_PASSWORD),
            ):
                by_password = chosen == ALPN_PASSWORD
                send = connect_with_password(USER[1]) if by_password else CONNECT + DISCONNECT
                shake = self.shake(version, alpn=offered, identity=self.device(), send=send)
                self.assert_in(shake, chosen)
                self.assertEqual(shake.asked, not by_password, shake.text)

        self.each_version(check)

    def test_a_hello_of_many_records(self):
        """60 KB of names: an answer, whichever it is."""

        def check(version):
            names = [f"{index:03}-" + "n" * 190 for index in range(300)] + [ALPN_CERTIFICATE]
            shake = self.shake(version, alpn=names, identity=self.device())
            self.assertTrue(shake.connected or shake.alert, shake.text[-2000:])
            self.assert_serves()

        self.each_version(check)

    def test_mqtt_asks_for_no_certificate(self):
        def check(version):
            for identity in (None, self.device()):
                shake = self.shake(version, alpn=ALPN_PASSWORD, identity=identity, send=connect_with_password(USER[1]))
                self.assert_in(shake, ALPN_PASSWORD)
                self.assertFalse(shake.asked, shake.text)
                for send in (connect_with_password("wrong"), CONNECT + DISCONNECT):
                    shake = self.shake(version, alpn=ALPN_PASSWORD, identity=identity, send=send)
                    self.assertIn(CONNACK_REFUSED, shake.output)

        self.each_version(check)

    # Whose certificate

    def test_certificates_that_are_refused(self):
        # One that serves as a server's only; its key is beside the CA.
        server = self.device()
        server.certificate, server.key = self.dir / "state/server.crt", self.dir / "state/server.key"
        self_signed = self.device("self-signed", state="another")
        self_signed.certificate, self_signed.key = self.dir / "another/ca.crt", self.dir / "another/ca.key"
        # It would have to begin before it ends, and begins a day ago.
        hour_ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
        refused = {
            "expired": (self.device("late", "--not-after", hour_ago), [CERTIFICATE_EXPIRED]),
            "a stranger's": (self.device(state="another"), [UNKNOWN_CA]),
            "self-signed": (self_signed, range(40, 50)),
            "a server's": (server, range(40, 50)),
        }
        for name, (identity, alerts) in refused.items():
            for version, option in VERSIONS.items():
                with self.subTest(f"{name}, TLS {version}"):
                    shake = self.shake(option, alpn=ALPN_CERTIFICATE, identity=identity)
                    self.assert_out(shake, *alerts)
        self.assert_serves()

    def test_an_rsa_certificate(self):
        identity = self.device("rsa", "--key-type", "rsa2048")
        self.each_version(lambda version: self.assert_in(self.shake(version, alpn=ALPN_CERTIFICATE, identity=identity)))

    def test_the_name_on_the_servers_certificate(self):
        identity = self.device()
        strict = ["-verify_return_error"]
        for host, options, right in (
            ("localhost", ["-verify_hostname", "localhost"], True),
            ("127.0.0.1", ["-verify_ip", "127.0.0.1"], True),
            # The SNI does not decide anything.
            ("localhost", ["-servername", "other.example"], True),
            ("localhost", ["-noservername"], True),
            ("localhost", ["-verify_hostname", "other.example"], False),
            ("127.0.0.1", ["-verify_ip", "127.0.0.2"], False),
        ):
            with self.subTest(f"{host} {options}"):
                shake = self.shake(*strict, *options, alpn=ALPN_CERTIFICATE, identity=identity, host=host)
                self.assertEqual((shake.code == 0, shake.connected), (right, right), shake.text)
        self.assert_serves()

    # Versions, suites, groups

    def test_older_versions_are_refused(self):
        for option in ("-tls1_1", "-tls1"):
            with self.subTest(option):
                # Level 0, as OpenSSL itself would not offer them.
                old = [option, "-cipher", "DEFAULT@SECLEVEL=0"]
                shake = self.shake(*old, alpn=ALPN_CERTIFICATE, identity=self.device())
                # RFC 5246 appendix E.1 has protocol_version; rustls misses the signature algorithms first.
                self.assert_out(shake, PROTOCOL_VERSION, HANDSHAKE_FAILURE)

    def test_the_newer_version_is_chosen(self):
        shake = self.shake(alpn=ALPN_CERTIFICATE, identity=self.device())
        self.assert_in(shake)
        self.assertIn("New, TLSv1.3, ", shake.text)

    def test_suites(self):
        for option, suites in {
            "-ciphersuites": ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
            "-cipher": ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        }.items():
            version = VERSIONS["1.3" if option == "-ciphersuites" else "1.2"]
            for suite in suites:
                with self.subTest(suite):
                    shake = self.shake(version, option, suite, alpn=ALPN_CERTIFICATE, identity=self.device())
                    self.assert_in(shake)
                    self.assertIn(f"Cipher is {suite}", shake.text)
        for suite in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
            with self.subTest(suite):
                shake = self.shake("-tls1_2", "-cipher", suite, alpn=ALPN_CERTIFICATE, identity=self.device())
                self.assert_out(shake, HANDSHAKE_FAILURE)

    def test_groups(self):
        def check(version):
            # Of the last pair the key share is for the first: a HelloRetryRequest, and a second hello with the same names.
            for groups in ("X25519", "P-256", "P-384", "P-521:P-256"):
                # In 1.2 the list is for signatures too, and the endpoint's key is on P-256.
                groups += ":P-256" if version == "-tls1_2" and "P-256" not in groups else ""
                shake = self.shake(version, "-groups", groups, alpn=ALPN_CERTIFICATE, identity=self.device())
                self.assert_in(shake)
                self.assertTrue(shake.asked, shake.text)

        self.each_version(check)
        shake = self.shake("-tls1_3", "-groups", "P-521", alpn=ALPN_CERTIFICATE, identity=self.device())
        self.assert_out(shake, HANDSHAKE_FAILURE)

    # After the handshake

    def test_no_session_is_resumed(self):
        """AWS IoT Core does not resume either: neither a ticket nor a session id."""

        def check(version):
            shake = self.shake(version, alpn=ALPN_CERTIFICATE, identity=self.device())
            self.assert_in(shake)
            self.assertNotIn("NewSessionTicket", shake.text)
            self.assertNotRegex(shake.text, r"Session-ID: [0-9A-F]")

        self.each_version(check)

    def test_small_records(self):
        def check(version):
            shake = self.shake(version, "-max_send_frag", "512", alpn=ALPN_CERTIFICATE, identity=self.device())
            self.assert_in(shake)

        self.each_version(check)

    def converse(self, *options):
        """s_client with its commands, and what it has written so far."""
        command = self.command(*options, alpn=ALPN_CERTIFICATE, identity=self.device())
        command.remove("-nocommands")
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        output = bytearray()

        def read():
            while data := child.stdout.read(65536):
                output.extend(data)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()

        def end():
            child.stdin.close()
            child.kill()
            child.wait()
            reader.join()
            child.stdout.close()

        self.addCleanup(end)
        # All s_client says about a handshake is over.
        wait_until(lambda: b"Verify return code" in output, "a finished handshake")
        return child, output

    def test_a_key_update(self):
        """RFC 8446 section 4.6.3: both sides change their keys (`K` asks for that), ours before its next record."""
        child, output = self.converse("-tls1_3")
        child.stdin.write(b"K\n")
        wait_until(lambda: re.search(rb">>> TLS 1.3, Handshake [^\n]*KeyUpdate", output), "the client's key update")
        child.stdin.write(CONNECT + DISCONNECT)
        wait_until(lambda: CONNACK in output, "CONNACK with the new keys")
        self.assertRegex(bytes(output), rb"<<< TLS 1.3, Handshake [^\n]*KeyUpdate")

    def test_a_renegotiation_is_refused(self):
        """TLS 1.2 alone has it; the endpoint ends the connection or goes on without, and serves the next."""
        child, output = self.converse("-tls1_2")
        child.stdin.write(b"R\n")
        wait_until(lambda: re.search(rb"<<< TLS 1.2, Alert", output) or child.poll() is not None, "an answer")
        self.assertEqual(len(re.findall(rb">>> TLS 1.2, Handshake [^\n]*Finished", output)), 1, output)
        self.assert_serves()
