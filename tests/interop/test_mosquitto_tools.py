"""mosquitto_pub and mosquitto_sub against our endpoint, over mutual TLS with ALPN."""

import json
import subprocess

from clients import ALPN_CERTIFICATE, ALPN_PASSWORD, WAIT
from harness import run_tool
from ours import USER, EndpointTest

VERSIONS = ("mqttv311", "mqttv5")
BYTES = bytes(range(256))


class MosquittoTools(EndpointTest):
    """mosquitto_pub and mosquitto_sub."""

    def setUp(self):
        super().setUp()
        self.require("mosquitto_pub", "mosquitto_sub")
        self.server = self.serve()

    def arguments(self, program, name, version, *options, alpn=ALPN_CERTIFICATE, certificate=True):
        """`name` is the client id and the certificate's common name."""
        tls = ["--cafile", self.server.ca, "--tls-alpn", alpn]
        if certificate:
            device = self.device(name)
            tls += ["--cert", device.certificate, "--key", device.key]
        target = ["-h", "localhost", "-p", self.server.port, "-i", name, "-V", version]
        return [str(argument) for argument in (program, *target, *tls, *options)]

    def subscriber(self, version, *options, name="subscriber", form="%t %q %r %x", **tls):
        """mosquitto_sub, as soon as its subscriptions are granted; it writes a line for each message."""
        form = ["-F", form]
        # Its debug lines, unlike messages, would wait in a buffer.
        process = self.process(f"{name}{len(self.logs)}", "stdbuf", "-oL", *self.arguments("mosquitto_sub", name, version, *form, "-d", *options, **tls))
        process.wait_for(r"^Subscribed \(mid: \d+\): ")
        return process

    def received(self, process, count):
        """The lines of the first messages; the debug lines are between them."""
        debug = ("Client ", "Subscribed (")
        try:
            process.wait(WAIT)  # it was told how many to take (-C)
        except subprocess.TimeoutExpired:
            pass
        lines = [line for line in process.text().splitlines() if not line.startswith(debug)]
        self.assertEqual(len(lines), count, process.text())
        return lines

    def publish(self, version, *options, given=None, **tls):
        code, text = self.run_publisher(version, *options, given=given, **tls)
        self.assertEqual(code, 0, text)

    def run_publisher(self, version, *options, given=None, **tls):
        """Runs mosquitto_pub; returns its exit code and what it wrote."""
        arguments = self.arguments("mosquitto_pub", "publisher", version, *options, **tls)
        done = subprocess.run(arguments, input=given, capture_output=True, timeout=WAIT)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def test_lines_arrive_in_order(self):
        """50 messages of one connection, with QoS 0 and with QoS 1."""
        for version in VERSIONS:
            with self.subTest(version):
                for qos in ("0", "1"):
                    topic = f"lines/{version}/{qos}"
                    subscriber = self.subscriber(version, "-t", topic, "-q", qos, "-C", "50")
                    lines = [f"message {index}" for index in range(50)]
                    self.publish(version, "-t", topic, "-q", qos, "-l", given="\n".join(lines).encode())
                    expected = [f"{topic} {qos} 0 {line.encode().hex()}" for line in lines]
                    self.assertEqual(self.received(subscriber, 50), expected)

    def test_qos_2_arrives_once_and_in_order(self):
        """At an endpoint that takes it."""
        self.server = self.serve(max_qos=2)
        for version in VERSIONS:
            with self.subTest(version):
                topic = f"twice/{version}"
                subscriber = self.subscriber(version, "-t", topic, "-q", "2", "-C", "51")
                lines = [f"message {index}" for index in range(50)]
                self.publish(version, "-t", topic, "-q", "2", "-l", given="\n".join(lines).encode())
                self.publish(version, "-t", topic, "-q", "2", "-m", "last")
                expected = [f"{topic} 2 0 {line.encode().hex()}" for line in [*lines, "last"]]
                self.assertEqual(self.received(subscriber, 51), expected)

    def test_bytes_arrive_unaltered(self):
        for version in VERSIONS:
            with self.subTest(version):
                topic = f"bytes/{version}"
                payloads = [b"", b"\0", BYTES, BYTES * 400]
                subscriber = self.subscriber(version, "-t", topic, "-q", "1", "-C", str(len(payloads)))
                for payload in payloads:
                    source = ["-s"] if payload else ["-n"]
                    self.publish(version, "-t", topic, "-q", "1", *source, given=payload)
                expected = [f"{topic} 1 0 {payload.hex()}" for payload in payloads]
                self.assertEqual(self.received(subscriber, len(payloads)), expected)

    def test_wildcards_retained_and_unicode(self):
        for version in VERSIONS:
            with self.subTest(version):
                base = f"\u6e29\u5ea6/{version}"
                self.publish(version, "-t", f"{base}/a", "-q", "1", "-r", "-m", "kept")
                filters = ["-t", f"{base}/+", "-t", f"+/{version}/#"]
                subscriber = self.subscriber(version, *filters, "-q", "1", "-C", "2", "-W", "20")
                self.publish(version, "-t", f"{base}/b", "-q", "1", "-r", "-m", "passing")
                lines = self.received(subscriber, 2)
                # Both filters match the retained message: it comes once for each, or once.
                self.assertEqual(lines[0], f"{base}/a 1 1 {b'kept'.hex()}")
                self.assertIn(lines[1], [lines[0], f"{base}/b 1 0 {b'passing'.hex()}"])

    def test_a_will_after_an_abrupt_end(self):
        for version in VERSIONS:
            with self.subTest(version):
                witness = self.subscriber(version, "-t", "wills/+", "-q", "1", "-C", "1", name="witness")
                will = ["--will-topic", "wills/dead", "--will-payload", "gone", "--will-qos", "1"]
                dead = self.subscriber(version, "-t", "any", *will, name="dead")
                dead.child.kill()
                self.assertEqual(self.received(witness, 1), [f"wills/dead 1 0 {b'gone'.hex()}"])

    def test_properties(self):
        """What mosquitto_sub says about a 5.0 message, as JSON."""
        subscriber = self.subscriber("mqttv5", "-t", "p", "-q", "1", "-C", "1", form="%j")
        given = {
            "content-type": "text/plain",
            "response-topic": "answers/\u00fc",
            "correlation-data": "number 7",
            "message-expiry-interval": "600",
            "payload-format-indicator": "1",
        }
        users = [("b", "1"), ("a", "2"), ("b", "3")]
        options = [option for pair in given.items() for option in ("-D", "publish", *pair)]
        options += [option for pair in users for option in ("-D", "publish", "user-property", *pair)]
        self.publish("mqttv5", "-t", "p", "-q", "1", "-m", "21 \u2103", *options)
        [line] = self.received(subscriber, 1)
        # The pairs as they stand there: user properties have an order, and names that come again.
        received = dict(json.loads(line, object_pairs_hook=list))
        properties = dict(received["properties"])
        self.assertEqual(properties.pop("user-properties"), users)
        self.assertIn(properties.pop("message-expiry-interval"), range(580, 601))
        given.pop("message-expiry-interval")
        self.assertEqual(properties, {**given, "payload-format-indicator": 1})
        self.assertEqual((received["topic"], received["qos"], received["payload"]), ("p", 1, "21 \u2103"))

    def test_a_client_id_is_taken_over(self):
        first = self.subscriber("mqttv5", "-t", "a", name="device-0")
        # It leaves as soon as it has subscribed.
        run_tool(*self.arguments("mosquitto_sub", "device-0", "mqttv5", "-t", "a", "-E"))
        first.wait_for(r"^Received DISCONNECT \(142\)")

    def test_alpn_mqtt_takes_user_and_password(self):
        for version in VERSIONS:
            with self.subTest(version):
                message = ["-t", "a", "-q", "1", "-m", "b", "-u", USER[0], "-P"]
                door = {"alpn": ALPN_PASSWORD, "certificate": False}
                self.publish(version, *message, USER[1], **door)
                code, text = self.run_publisher(version, *message, "wrong", **door)
                self.assertEqual(code, {"mqttv311": 4, "mqttv5": 0x86}[version])
                self.assertRegex(text, "(?i)bad user name or password")

    def test_refused_by_tls(self):
        for cause, options in {"another name": {"alpn": "h2"}, "no certificate": {"certificate": False}}.items():
            for version in VERSIONS:
                with self.subTest(f"{cause}, {version}"):
                    code, text = self.run_publisher(version, "-t", "a", "-q", "1", "-m", "b", **options)
                    # It does not say which alert it was.
                    self.assertRegex(text, "A TLS error occurred|The connection was lost")
                    self.assertNotEqual(code, 0)
