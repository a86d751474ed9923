"""Runs the tests of this directory, one after the other, and says at the end what was skipped and why.

python3 runner.py [PATTERN..]: a pattern is a part of a test's name.
"""

import signal
import sys
import time
import unittest
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOG_TAIL = 12
# A test that takes longer is broken off. What remains of it, subtests and clean-ups, has as long each.
TEST_LIMIT, REST_LIMIT = 90, 15


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


class Result(unittest.TestResult):
    """One line for each test as it ends; the reasons of a failure, and what the peers logged, at once."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}
        self.reasons = {}

    def startTest(self, test):
        super().startTest(test)
        signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT, REST_LIMIT)
        self.started = time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome = self.outcomes.get(test.id(), "ok")
        seconds = time.monotonic() - self.started
        why = f": {self.reasons[test.id()]}" if outcome == "skipped" else ""
        print(f"{outcome:7} {seconds:5.1f} s  {test.id()}{why}", flush=True)

    def addSuccess(self, test):
        self.outcomes.setdefault(test.id(), "ok")

    def addSkip(self, test, reason):
        self.outcomes[test.id()] = "skipped"
        self.reasons[test.id()] = reason

    def addFailure(self, test, err):
        self.failed(test, err)

    def addError(self, test, err):
        self.failed(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.failed(test, err, subtest)

    def failed(self, test, err, subtest=None):
        self.outcomes[test.id()] = "FAILED"
        print(f"\n--- {(subtest or test).id()}")
        print(self._exc_info_to_string(err, test).rstrip())
        for log in sorted(getattr(test, "logs", [])):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            if lines:
                print(f"    --- the last lines of {log.name}")
                print("\n".join(f"    {line}" for line in lines[-LOG_TAIL:]))
        print(flush=True)


def too_long(_signal, _frame):
    raise AssertionError(f"broken off: it takes longer than {TEST_LIMIT} s")


def main(patterns):
    signal.signal(signal.SIGALRM, too_long)
    sys.path.insert(0, str(HERE))
    tests = list(flatten(unittest.defaultTestLoader.discover(str(HERE), top_level_dir=str(HERE))))
    if patterns:
        tests = [test for test in tests if any(pattern in test.id() for pattern in patterns)]
    if not tests:
        print("no test has such a name")
        return 1
    result = Result()
    started = time.monotonic()
    unittest.TestSuite(tests).run(result)

    # A class whose set-up failed or was skipped never started its tests: they share its fate.
    holders = {name.split("(")[-1].rstrip(")"): name for name in result.outcomes if name.startswith("setUpClass")}
    for test in tests:
        if test.id() not in result.outcomes:
            holder = holders.get(test.id().rsplit(".", 1)[0])
            result.outcomes[test.id()] = result.outcomes.get(holder, "FAILED")
            result.reasons[test.id()] = result.reasons.get(holder, "its class was not set up")
    count = {outcome: sum(result.outcomes[test.id()] == outcome for test in tests) for outcome in ("ok", "FAILED", "skipped")}

    skipped = defaultdict(list)
    for test in tests:
        if result.outcomes[test.id()] == "skipped":
            skipped[result.reasons[test.id()]].append(test.id())
    if skipped:
        print("\nskipped:")
    for reason, names in skipped.items():
        print(f"  {len(names)} because: {reason}")
        for name in names:
            print(f"    {name}")
    broken = any(outcome == "FAILED" for outcome in result.outcomes.values())
    if broken:
        print("\nfailed:")
        for name, outcome in result.outcomes.items():
            if outcome == "FAILED":
                print(f"  {name}")
    print(f"\n{time.monotonic() - started:.0f} s")
    print(f"{count['ok']} passed, {count['FAILED']} failed, {count['skipped']} skipped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
