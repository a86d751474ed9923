"""The fleet against servers that others wrote: 200 devices each time, nothing lost, the server's log as the witness."""

import atexit
import functools
import re
import shutil
import tempfile
from pathlib import Path

from harness import FLEETWIRE, WORK, InteropTest, Pki, free_port, run_tool

DEVICES = 200
RSA_KEYS = 10
AWS_NAME = "x-amzn-mqtt-ca"


@functools.cache
def scratch():
    """A directory for what several tests share."""
    WORK.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=WORK, prefix="pki."))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.cache
def pki(kind):
    return Pki(scratch() / kind, kind)


@functools.cache
def server(kind):
    return pki(kind).server()


@functools.cache
def devices(kind):
    """A directory of identities, each device with its own certificate, keys in PKCS#8.

    RSA keys take long to make, so there 20 devices share a key.
    """
    authority = Pki(scratch() / f"{kind}-devices", kind, "Device CA")
    keys = []
    for index in range(DEVICES):
        if kind == "rsa" and index >= RSA_KEYS:
            key = authority.directory / f"device-{index}.key"
            authority.device(f"device-{index}", key=keys[index % RSA_KEYS])
            shutil.copy(keys[index % RSA_KEYS], key)
        else:
            keys.append(authority.device(f"device-{index}").key)
    return authority


@functools.cache
def devices_in(kind, form):
    """The same identities, their keys in another form: `traditional` (SEC1 or PKCS#1), or with `EC PARAMETERS` first."""
    authority = devices(kind)
    directory = scratch() / f"{kind}-{form}"
    directory.mkdir()
    parameters = run_tool("openssl", "ecparam", "-name", "prime256v1") if form == "with_parameters" else ""
    for index in range(DEVICES):
        name = f"device-{index}"
        shutil.copy(authority.directory / f"{name}.crt", directory)
        key = run_tool("openssl", "pkey", "-traditional", "-in", authority.directory / f"{name}.key")
        (directory / f"{name}.key").write_text(parameters + key)
    return directory


class ServerTest(InteropTest):
    def run_fleet(self, broker, *options, alpn, tls, mqtt, count=DEVICES):
        """Runs `count` devices, of which all have to connect and lose nothing; returns the JSON."""
        run = self.fleet(
            *("--broker", broker, "--devices", count, "--duration", "2s", "--period", "500ms", "--mqtt", mqtt),
            *("--subscribe", "fleet/{client_id}/telemetry", *options),
        )
        report = run.json
        self.assertIsNotNone(report, run)
        self.assertEqual(report["failures"], {}, run)
        self.assertEqual(report["disconnect_reasons"], {}, run)
        self.assertEqual((report["connected"], report["connected_at_end"]), (count, count), run)
        self.assertEqual(report["alpn"], {alpn: count}, run)
        self.assertEqual(report["tls_version"], {tls: count}, run)
        self.assertEqual((report["lost"], report["refused"]), (0, 0), run)
        # Four publishes of each were due in two seconds; a busy machine may have missed some.
        self.assertGreaterEqual(report["published"], 3 * count, run)
        self.assertEqual(report["acknowledged"], report["published"], run)
        self.assertEqual(report["received"], report["published"], run)
        self.assertEqual(report["subscribed"], count, run)
        self.assertEqual(run.code, 0, run)
        return report

    def broker_saw(self, broker, report, mqtt):
        """mosquitto's log knows every device and every publish."""
        protocol = {"5": "p5", "3.1.1": "p2"}[mqtt]
        log = broker.text()
        clients = set(re.findall(rf"New client connected from \S+ as (device-\d+) \({protocol},", log))
        self.assertEqual(len(clients), report["connected"])
        self.assertEqual(len(re.findall(r"Received PUBLISH from device-\d+ ", log)), report["published"])


class Mosquitto(ServerTest):
    """mosquitto by itself. It answers no ALPN, so none is offered."""

    def plain(self, mqtt):
        broker = self.mosquitto()
        report = self.run_fleet(f"mqtt://127.0.0.1:{broker.port}", alpn="none", tls="none", mqtt=mqtt)
        self.broker_saw(broker, report, mqtt)

    def test_plain_5(self):
        self.plain("5")

    def test_plain_3_1_1(self):
        self.plain("3.1.1")

    def exactly_once(self, mqtt):
        broker = self.mosquitto()
        url = f"mqtt://127.0.0.1:{broker.port}"
        report = self.run_fleet(url, "--qos", "2", alpn="none", tls="none", mqtt=mqtt)
        self.broker_saw(broker, report, mqtt)
        # Both directions went through all four packets.
        log = broker.text()
        for packet in ("Received PUBREL from", "Received PUBREC from", "Received PUBCOMP from"):
            self.assertEqual(len(re.findall(rf"{packet} device-\d+ ", log)), report["published"], packet)

    def test_qos_2_5(self):
        self.exactly_once("5")

    def test_qos_2_3_1_1(self):
        self.exactly_once("3.1.1")

    def mutual(self, kind, identities, mqtt, tls):
        broker = self.mosquitto(tls=server(kind), ca=devices(kind).ca.certificate)
        report = self.run_fleet(
            f"mqtts://localhost:{broker.port}",
            *("--ca", pki(kind).ca.certificate, "--identities", identities, "--tls", tls),
            alpn="none",
            tls=tls,
            mqtt=mqtt,
        )
        self.broker_saw(broker, report, mqtt)

    def test_mutual_ecdsa_pkcs8_5(self):
        self.mutual("ec", devices("ec").directory, "5", "1.3")

    def test_mutual_ecdsa_pkcs8_3_1_1_tls_1_2(self):
        self.mutual("ec", devices("ec").directory, "3.1.1", "1.2")

    def test_mutual_ecdsa_sec1_5_tls_1_2(self):
        self.mutual("ec", devices_in("ec", "traditional"), "5", "1.2")

    def test_mutual_ecdsa_sec1_with_parameters_3_1_1(self):
        self.mutual("ec", devices_in("ec", "with_parameters"), "3.1.1", "1.3")

    def test_mutual_rsa_pkcs8_5(self):
        self.mutual("rsa", devices("rsa").directory, "5", "1.3")

    def test_mutual_rsa_pkcs1_3_1_1_tls_1_2(self):
        self.mutual("rsa", devices_in("rsa", "traditional"), "3.1.1", "1.2")

    def test_identities_of_certs_issue(self):
        """`fleetwire certs issue`: OpenSSL takes its CA, and the certificates of both kinds of key."""
        for kind, tls in (("p256", "1.3"), ("rsa2048", "1.2")):
            with self.subTest(kind):
                count = 50
                state, out = self.dir / f"state-{kind}", self.dir / kind
                run_tool(FLEETWIRE, "certs", "issue", "--state", state, "--count", count, "--key-type", kind, "--out", out)
                broker = self.mosquitto(tls=server("ec"), ca=state / "ca.crt")
                report = self.run_fleet(
                    f"mqtts://localhost:{broker.port}",
                    *("--ca", pki("ec").ca.certificate, "--identities", out, "--tls", tls),
                    alpn="none",
                    tls=tls,
                    mqtt="5",
                    count=count,
                )
                self.broker_saw(broker, report, "5")

    def test_one_certificate_for_all_devices(self):
        broker = self.mosquitto(tls=server("ec"), ca=devices("ec").ca.certificate)
        one = devices("ec").directory / "device-0"
        report = self.run_fleet(
            f"mqtts://127.0.0.1:{broker.port}",
            *("--ca", pki("ec").ca.certificate, "--cert", f"{one}.crt", "--key", f"{one}.key"),
            alpn="none",
            tls="1.3",
            mqtt="5",
        )
        self.broker_saw(broker, report, "5")

    def test_intermediate_authorities(self):
        """Both sides send two certificates; each trusts the other's root alone."""
        servers = Pki(self.dir / "servers", name="Server CA 1", parent=pki("ec"))
        fleet = Pki(self.dir / "fleet", name="Device CA 1", parent=devices("ec"))
        count = 20
        for index in range(count):
            fleet.device(f"device-{index}")
        broker = self.mosquitto(tls=servers.server(), ca=devices("ec").ca.certificate)
        for tls in ("1.3", "1.2"):
            with self.subTest(tls):
                self.run_fleet(
                    f"mqtts://localhost:{broker.port}",
                    *("--ca", pki("ec").ca.certificate, "--identities", fleet.directory, "--tls", tls),
                    alpn="none",
                    tls=tls,
                    mqtt="5",
                    count=count,
                )

    def test_tls_with_password(self):
        """No client certificate: the server's TLS, a user name and a password."""
        users = self.dir / "users"
        self.require("mosquitto_passwd")
        run_tool("mosquitto_passwd", "-c", "-b", users, "fleet", "secret")
        broker = self.mosquitto(f"password_file {users}", tls=server("ec"))
        report = self.run_fleet(
            f"mqtts://localhost:{broker.port}",
            *("--ca", pki("ec").ca.certificate, "--username", "fleet", "--password", "secret"),
            alpn="none",
            tls="1.3",
            mqtt="3.1.1",
        )
        self.broker_saw(broker, report, "3.1.1")


class Nginx(ServerTest):
    """nginx as the front of port 443, mosquitto behind it without TLS."""

    def front(self, kind, port, behind, versions="TLSv1.2 TLSv1.3", alpn=AWS_NAME, mutual=True):
        identity = server(kind)
        lines = [
            f"listen 127.0.0.1:{port} ssl;",
            f"ssl_certificate {identity.certificate};",
            f"ssl_certificate_key {identity.key};",
            f"ssl_alpn {alpn};",
            f"ssl_protocols {versions};",
            f"proxy_pass 127.0.0.1:{behind};",
        ]
        if mutual:
            lines += [f"ssl_client_certificate {devices(kind).ca.certificate};", "ssl_verify_client on;"]
        return "server {\n" + "\n".join(lines) + "\n}\n"

    def one_hop(self, kind, identities, mqtt, tls, versions="TLSv1.2 TLSv1.3"):
        self.require("nginx")
        broker, port = self.mosquitto(), free_port()
        self.nginx(self.front(kind, port, broker.port, versions), ports=[port])
        report = self.run_fleet(
            f"mqtts://localhost:{port}?alpn={AWS_NAME}",
            *("--ca", pki(kind).ca.certificate, "--identities", identities),
            alpn=AWS_NAME,
            tls=tls,
            mqtt=mqtt,
        )
        self.broker_saw(broker, report, mqtt)

    def test_one_hop_5(self):
        self.one_hop("ec", devices("ec").directory, "5", "1.3")

    def test_one_hop_3_1_1(self):
        self.one_hop("ec", devices_in("ec", "traditional"), "3.1.1", "1.3")

    def test_one_hop_tls_1_2_only(self):
        self.one_hop("ec", devices("ec").directory, "5", "1.2", "TLSv1.2")

    def test_one_hop_rsa_tls_1_2_only(self):
        self.one_hop("rsa", devices_in("rsa", "traditional"), "3.1.1", "1.2", "TLSv1.2")

    def routed(self, mqtt):
        """By the ClientHello's ALPN: the device port behind one name, a password port behind another, HTTPS else."""
        self.require("nginx", "mosquitto_passwd")
        users = self.dir / "users"
        run_tool("mosquitto_passwd", "-c", "-b", users, "fleet", "secret")
        certificates, passwords = self.mosquitto(), self.mosquitto(f"password_file {users}")
        port, mutual, user, https = (free_port() for _ in range(4))
        stream = (
            "map $ssl_preread_alpn_protocols $way {\n"
            f"~\\b{AWS_NAME}\\b 127.0.0.1:{mutual};\n~\\bmqtt\\b 127.0.0.1:{user};\ndefault 127.0.0.1:{https};\n}}\n"
            f"server {{\nlisten 127.0.0.1:{port};\nssl_preread on;\nproxy_pass $way;\n}}\n"
            + self.front("ec", mutual, certificates.port)
            + self.front("ec", user, passwords.port, alpn="mqtt", mutual=False)
        )
        self.nginx(stream, ports=[port, mutual, user])
        for name, broker, options in (
            (AWS_NAME, certificates, ("--identities", devices("ec").directory)),
            ("mqtt", passwords, ("--username", "fleet", "--password", "secret")),
        ):
            with self.subTest(name):
                report = self.run_fleet(
                    f"mqtts://localhost:{port}",
                    *("--alpn", name, "--ca", pki("ec").ca.certificate, *options),
                    alpn=name,
                    tls="1.3",
                    mqtt=mqtt,
                )
                self.broker_saw(broker, report, mqtt)

    def test_routed_by_alpn_5(self):
        self.routed("5")

    def test_routed_by_alpn_3_1_1(self):
        self.routed("3.1.1")
