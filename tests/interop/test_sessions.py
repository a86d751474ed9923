"""What brokers say to a CONNECT, and how connections end that were up."""

import re
import signal
import socket

from harness import FLEETWIRE, Fleet, Scripted, run_tool, wait_until
from test_refusals import RefusalTest, read_until_closed
from test_servers import AWS_NAME, DEVICES, devices, pki, server

# v5 section 3.2.2.2: every code that refuses, with a word of its name or of what to do.
CODES_5 = {
    0x80: "unspecified",
    0x81: "malformed",
    0x82: "protocol",
    0x83: "implementation",
    0x84: "--mqtt 3.1.1",
    0x85: "--client-id",
    0x86: "--username",
    0x87: "not authorized",
    0x88: "not available",
    0x89: "busy",
    0x8A: "banned",
    0x8C: "authentication method",
    0x90: "topic",
    0x95: "too big",
    0x97: "--connect-rate",
    0x99: "payload",
    0x9A: "retain",
    0x9B: "qos",
    0x9C: "elsewhere",
    0x9D: "elsewhere",
    0x9F: "--connect-rate",
}
# 3.1.1 section 3.2.2.3.
CODES_3_1_1 = {1: "--mqtt 5", 2: "--client-id", 3: "not available", 4: "--password", 5: "not authorized"}
MAY_PASS = {"5": (0x80, 0x88, 0x89, 0x97, 0x9F), "3.1.1": (3,)}
CONNACK, DISCONNECT = 0x20, 0xE0


def packet(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def connack(mqtt, code, properties=b""):
    return packet(CONNACK, bytes([0, code]) + (bytes([len(properties)]) + properties if mqtt == "5" else b""))


def reason_string(text):
    return b"\x1f" + len(text).to_bytes(2, "big") + text


def read_exactly(link, count):
    data = b""
    while len(data) < count:
        more = link.recv(count - len(data))
        if not more:
            raise ConnectionError("closed in the middle of a packet")
        data += more
    return data


def read_packet(link):
    """The first byte and the body of the next packet."""
    first, length, shift = read_exactly(link, 1)[0], 0, 0
    while True:
        byte = read_exactly(link, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, read_exactly(link, length)


def answer(*replies):
    """A script: after the CONNECT these bytes, then the close."""

    def script(link):
        read_packet(link)
        link.sendall(b"".join(replies))
        link.shutdown(socket.SHUT_WR)
        read_until_closed(link)

    return script


class Connack(RefusalTest):
    def each_code(self, mqtt, codes):
        for code, word in codes.items():
            with self.subTest(hex(code)):
                peer = self.scripted(answer(connack(mqtt, code)))
                slug = "throttled" if (mqtt, code) in (("5", 0x97), ("5", 0x9F)) else "connack_refused"
                words = [f"0x{code:02X}" if mqtt == "5" else f"return code {code}", word]
                self.refused(slug, words, "--broker", f"mqtt://127.0.0.1:{peer.port}", "--mqtt", mqtt, devices=1)
                self.assertEqual(peer.accepted, 1)

    def test_each_code_of_5(self):
        self.each_code("5", CODES_5)

    def test_each_code_of_3_1_1(self):
        self.each_code("3.1.1", CODES_3_1_1)

    def test_reason_string_is_shown(self):
        peer = self.scripted(answer(connack("5", 0x87, reason_string(b"ask the operator"))))
        self.refused("connack_refused", ["0x87", "ask the operator"], "--broker", f"mqtt://127.0.0.1:{peer.port}", devices=1)

    def test_only_what_may_pass_is_tried_again(self):
        """With reconnecting on, until the second attempt where one is due (within a second), else once."""
        for mqtt, codes in (("5", (0x85, 0x87, *MAY_PASS["5"])), ("3.1.1", (2, 4, 5, *MAY_PASS["3.1.1"]))):
            for code in codes:
                with self.subTest(f"{mqtt} {code:#x}"):
                    peer = self.scripted(answer(connack(mqtt, code)))
                    run = self.fleet(
                        *("--broker", f"mqtt://127.0.0.1:{peer.port}", "--mqtt", mqtt, "--devices", 1),
                        *("--duration", "1200ms", "--drain", "0s"),
                    )
                    self.assertEqual((run.code, run.json["failed"]), (1, 1), run)
                    if code in MAY_PASS[mqtt]:
                        self.assertGreater(peer.accepted, 1, run)
                    else:
                        self.assertEqual(peer.accepted, 1, run)

    def test_wrong_password_at_mosquitto(self):
        self.require("mosquitto_passwd")
        users = self.dir / "users"
        run_tool("mosquitto_passwd", "-c", "-b", users, "fleet", "secret")
        broker = self.mosquitto(f"password_file {users}")
        for mqtt, words in (("5", ["0x87"]), ("3.1.1", ["return code 5"])):
            for wrong in (("--username", "fleet", "--password", "wrong"), ()):
                with self.subTest(f"{mqtt} {wrong}"):
                    url = ("--broker", f"mqtt://127.0.0.1:{broker.port}", "--mqtt", mqtt)
                    self.refused("connack_refused", [*words, "--username", "--password"], *url, *wrong)

    def test_server_keep_alive_of_mosquitto(self):
        """A 5.0 broker that wants a shorter keep-alive says so in CONNACK, and closes after one and a half of it."""
        broker = self.mosquitto("max_keepalive 10")
        run = self.fleet(
            *("--broker", f"mqtt://127.0.0.1:{broker.port}", "--keep-alive", "60s", "--period", "off"),
            *("--devices", 3, "--duration", "17s", "--reconnect", "off"),
        )
        self.assertEqual((run.code, run.json["connected_at_end"], run.json["disconnects"]), (0, 3, 0), run)
        self.assertGreaterEqual(broker.text().count("Received PINGREQ"), 3)

    def test_what_is_no_connack(self):
        for name, reply, slug in (
            ("PINGRESP", packet(0xD0, b""), "protocol_violation"),
            ("reserved type", packet(0x00, b""), "not_mqtt"),
            ("session present with a refusal", packet(CONNACK, bytes([1, 0x87, 0])), "protocol_violation"),
            ("reserved flags", packet(CONNACK, bytes([2, 0, 0])), "protocol_violation"),
            ("too short", packet(CONNACK, b"\0"), "protocol_violation"),
        ):
            with self.subTest(name):
                peer = self.scripted(answer(reply))
                self.refused(slug, ["MQTT"], "--broker", f"mqtt://127.0.0.1:{peer.port}", devices=1)


class TakenOver(RefusalTest):
    COUNT = 5

    def two_runs(self, broker, mqtt):
        """Two runs with the same client ids, the second when the first is connected; returns the first."""
        common = ("--broker", *broker, "--mqtt", mqtt, "--devices", self.COUNT, "--reconnect", "off")
        first = Fleet(self.dir, *common, "--duration", "5s", "--period", "off")
        wait_until(lambda: f"{self.COUNT}/{self.COUNT} connected" in first.progress(), "the first run is connected")
        second = self.fleet(*common, "--duration", "500ms", "--period", "100ms")
        self.assertEqual((second.code, second.json["connected"], second.json["lost"]), (0, self.COUNT, 0), second)
        run = first.end()
        self.assertEqual((run.json["connected"], run.json["connected_at_end"]), (self.COUNT, 0), run)
        self.assertEqual(run.json["disconnects"], self.COUNT, run)
        self.assertEqual(run.code, 1, run)
        return run

    def at_mosquitto(self, mqtt):
        broker = self.mosquitto()
        return self.two_runs((f"mqtt://127.0.0.1:{broker.port}",), mqtt)

    def test_at_mosquitto_closes_without_a_word(self):
        """mosquitto 2.0.11 says as little under 5.0 as 3.1.1 can say: it closes."""
        for mqtt in ("5", "3.1.1"):
            with self.subTest(mqtt):
                run = self.at_mosquitto(mqtt)
                self.assertEqual(run.json["disconnect_reasons"], {"connection_lost": self.COUNT}, run)
                self.said(run, "connection_lost", "without DISCONNECT", "broker's log")

    def test_at_the_endpoint_5(self):
        endpoint = self.endpoint()
        out = self.dir / "devices"
        run_tool(FLEETWIRE, "certs", "issue", "--state", endpoint.state, "--count", self.COUNT, "--out", out)
        url = f"mqtts://localhost:{endpoint.port}?alpn={AWS_NAME}"
        run = self.two_runs((url, "--ca", endpoint.state / "ca.crt", "--identities", out), "5")
        self.assertEqual(run.json["disconnect_reasons"], {"client_id_taken_over": self.COUNT}, run)
        self.said(run, "client_id_taken_over", "0x8E", "--client-id", "--index-from")

    def again_and_again(self, mqtt, *replies):
        """Dropped at once after each CONNACK: somebody who also reconnects has the same id. It stops."""
        peer = self.scripted(answer(connack(mqtt, 0), *replies))
        run = self.fleet(
            *("--broker", f"mqtt://127.0.0.1:{peer.port}", "--mqtt", mqtt, "--devices", 1, "--period", "off"),
            *("--duration", "6s", "--drain", "0s"),
        )
        # Without a word of the broker's only the third loss tells what the first two were.
        told = {"connection_lost": 1} if mqtt == "3.1.1" else {}
        self.assertEqual(run.json["disconnect_reasons"], {"client_id_taken_over": 1, **told}, run)
        self.said(run, "client_id_taken_over", "3 times", "Someone else", "--client-id", "--index-from")
        self.assertEqual((peer.accepted, run.code), (3, 1), run)

    def test_again_and_again_5(self):
        self.again_and_again("5", packet(DISCONNECT, b"\x8e\x00"))

    def test_again_and_again_3_1_1_is_inferred(self):
        self.again_and_again("3.1.1")


class BrokerDies(RefusalTest):
    """mosquitto is killed in the middle, something useless answers on its port for a while, and it comes back."""

    waits_long = True

    def dies_and_comes_back(self, mqtt, scheme, *options, **mosquitto):
        broker = self.mosquitto(**mosquitto)
        fleet = Fleet(
            self.dir,
            *("--broker", f"{scheme}://127.0.0.1:{broker.port}", "--mqtt", mqtt, "--devices", DEVICES),
            # After three or four failures a device may wait 16 s before it tries again.
            *("--duration", "30s", "--period", "200ms", *options),
        )
        wait_until(lambda: broker.text().count("Received PUBLISH") > 4 * DEVICES, "the fleet publishes")
        broker.stop(signal.SIGKILL)
        before = broker.text()

        useless = Scripted(lambda link: None, port=broker.port)
        self.addCleanup(useless.close)
        wait_until(lambda: useless.accepted >= DEVICES + DEVICES // 2, "the devices try again, and once more")
        useless.close()
        broker.start()
        broker.wait_listening(broker.port)
        wait_until(
            lambda: len(self.clients(broker.text()[len(before) :])) == DEVICES, "all devices come back", deadline=40
        )

        run = fleet.end()
        report, log = run.json, broker.text()
        self.assertEqual((report["connected"], report["failed"]), (DEVICES, 0), run)
        self.assertEqual(report["connected_at_end"], DEVICES, run)
        self.assertEqual(report["disconnect_reasons"], {"connection_lost": DEVICES}, run)
        self.assertEqual((report["disconnects"], report["reconnects"]), (DEVICES, DEVICES), run)
        # They published on after the return.
        self.assertGreater(log[len(before) :].count("Received PUBLISH"), DEVICES, run)

        # The ledger: every slot and every publish ended once.
        self.assertTrue(report["balanced"], run)
        self.assertEqual(report["scheduled"], report["published"] + report["missed"], run)
        self.assertEqual(report["published"], report["acknowledged"] + report["refused"] + report["lost"], run)
        self.assertGreater(report["missed_by"]["offline"], 0, run)
        # What we count as acknowledged the broker had acknowledged, and it had no more than we published.
        self.assertLessEqual(report["acknowledged"], log.count("Sending PUBACK"), run)
        self.assertLessEqual(log.count("Sending PUBACK"), log.count("Received PUBLISH"), run)
        self.assertLessEqual(log.count("Received PUBLISH"), report["published"], run)
        # At most what was on its way when the broker died.
        self.assertLessEqual(report["lost"], 2 * DEVICES, run)
        self.assertEqual(run.code, 1 if report["lost"] else 0, run)

    @staticmethod
    def clients(log):
        return set(re.findall(r"New client connected from \S+ as (device-\d+) ", log))

    def test_plain_5(self):
        self.dies_and_comes_back("5", "mqtt")

    def test_mutual_tls_3_1_1(self):
        self.dies_and_comes_back(
            *("3.1.1", "mqtts", "--ca", pki("ec").ca.certificate, "--identities", devices("ec").directory),
            tls=server("ec"),
            ca=devices("ec").ca.certificate,
        )
