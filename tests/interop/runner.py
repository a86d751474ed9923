"""Runs the tests of this directory, as many at a time as there are processors, and says at the end what was skipped and why.

python3 runner.py [PATTERN..]: a pattern is a part of a test's name. INTEROP_JOBS says how many at a time instead.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOG_TAIL = 12
# A test that takes longer is broken off. What remains of it, subtests and clean-ups, has as long each.
TEST_LIMIT, REST_LIMIT = 90, 15
OUTCOMES = {"ok": "passed", "FAILED": "failed", "skipped": "skipped"}
# The argument of a process that runs tests for another one.
WORKER = "--worker"


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


def work(names, answers):
    """Runs the tests whose names come in, one after the other, and answers each with what came of it."""
    signal.signal(signal.SIGALRM, too_long)
    for name in map(str.strip, names):
        result, output = Result(), io.StringIO()
        with contextlib.redirect_stdout(output):
            unittest.TestSuite([unittest.defaultTestLoader.loadTestsFromName(name)]).run(result)
        print(json.dumps([output.getvalue(), result.outcomes, result.reasons]), file=answers, flush=True)


class Worker:
    """A process that runs tests; a test that ends its worker has failed, and the next one gets another."""

    def __init__(self):
        self.start()

    def start(self):
        self.child = subprocess.Popen([sys.executable, __file__, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name):
        """What it printed, the outcome and why."""
        self.child.stdin.write(f"{name}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        if not answer:
            self.end()
            self.start()
            return f"FAILED          {name}: its worker ended\n", "FAILED", ""
        output, outcomes, reasons = json.loads(answer)
        # A class whose set-up failed or was skipped never started the test, which shares its fate.
        named = name if name in outcomes else next(iter(outcomes), "")
        outcome = "FAILED" if "FAILED" in outcomes.values() else outcomes.get(named, "FAILED")
        return output, outcome, reasons.get(named, "its class was not set up")

    def end(self):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()


def run_all(names, jobs):
    """The outcome of each test, and the reasons of those that have one."""
    outcomes, reasons = {}, {}
    following = iter(names)
    lock = threading.Lock()

    def serve():
        worker = Worker()
        while True:
            with lock:
                name = next(following, None)
            if name is None:
                return worker.end()
            output, outcome, why = worker.run(name)
            with lock:
                print(output, end="", flush=True)
                outcomes[name], reasons[name] = outcome, why

    threads = [threading.Thread(target=serve) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, reasons


def main(patterns):
    tests = list(flatten(unittest.defaultTestLoader.discover(str(HERE), top_level_dir=str(HERE))))
    # Those that wait for long begin first, so that none of them is what the others wait for at the end.
    tests.sort(key=lambda test: not getattr(test, "waits_long", False))
    names = [test.id() for test in tests if not patterns or any(pattern in test.id() for pattern in patterns)]
    if not names:
        print("no test has such a name")
        return 1
    started = time.monotonic()
    outcomes, reasons = run_all(names, int(os.environ.get("INTEROP_JOBS", os.cpu_count() or 1)))
    seconds = time.monotonic() - started

    by_outcome = defaultdict(list)
    for name in names:
        by_outcome[outcomes[name]].append(name)
    skipped = defaultdict(list)
    for name in by_outcome["skipped"]:
        skipped[reasons[name]].append(name)
    if skipped:
        print("\nskipped:")
    for reason, of_reason in skipped.items():
        print(f"  {len(of_reason)} because: {reason}")
        for name in of_reason:
            print(f"    {name}")
    if by_outcome["FAILED"]:
        print("\nfailed:")
        for name in by_outcome["FAILED"]:
            print(f"  {name}")
    print(f"\n{seconds:.0f} s")
    print(", ".join(f"{len(by_outcome[outcome])} {word}" for outcome, word in OUTCOMES.items()))
    return 1 if by_outcome["FAILED"] else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    if sys.argv[1:] == [WORKER]:
        # Programs that a test starts shall read no name and write no answer.
        names, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        work(names, answers)
    else:
        sys.exit(main(sys.argv[1:]))
