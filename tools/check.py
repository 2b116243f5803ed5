"""Runs every test suite and adds them up: what `make check` is.

    tools/check.py                    the gate
    tools/check.py --all              with the tests marked slow
    tools/check.py --sanitizer asan   unit tests and quick cluster tests of build-asan
    tools/check.py unit cluster       only these suites

Suites are tidy, those of the meson.build files (unit: cmocka; sql: the test bed; names that end in
-slow only with --all), fuzz (each target for a moment) and one for each folder below test/ that
holds test_*.py. Each is stopped, and counts as failed, when it passes its limit. The last line is
the sum; the exit code is 0 only when nothing failed and something ran.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "deps" / "cache" / "venv" / "bin"
LIMIT_S = 50 * 60
LIMIT_SANITIZER_S = 2 * 3600
LIMIT_ALL_S = 6 * 3600
SANITIZER_ENV = {
    "asan": {
        "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "LSAN_OPTIONS": f"suppressions={ROOT}/tools/lsan.supp:print_suppressions=0",
    },
    "tsan": {
        "TSAN_OPTIONS": f"suppressions={ROOT}/tools/tsan.supp:halt_on_error=1"
                        ":second_deadlock_stack=1:history_size=4",
    },
}


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.seconds = 0.0
        self.failures = []

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)


def run(command, env, limit_s, folder=ROOT):
    """Run in its own process group, so that a limit ends all that it started; code, or None."""
    process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True,
                               stdin=subprocess.DEVNULL)
    try:
        return process.wait(limit_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as stop:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if isinstance(stop, KeyboardInterrupt):
            raise
        return None


def suite_tidy(suite, context):
    if run([sys.executable, "tools/tidy.py"], context.env, context.limit_s) == 0:
        suite.passed += 1
    else:
        suite.fail("tidy")


def meson_suites(build):
    """The suites that meson.build files define, in their order there."""
    listed = subprocess.run([VENV / "meson", "introspect", "--tests", build], check=True,
                            capture_output=True, text=True).stdout
    names = [name.split(":")[-1] for test in json.loads(listed) for name in test["suite"]]
    return list(dict.fromkeys(names))


def count_meson_test(suite, entry):
    """Cases inside one program: cmocka's closing lines, or the SQL test bed's."""
    text = entry.get("stdout", "") + entry.get("stderr", "")
    name = entry["name"].split(":")[-1]
    count = {word: sum(int(a or b) for a, b in re.findall(pattern, text)) for word, pattern in {
        "passed": r"\[  PASSED  \] (\d+) test|(?m:^)\S+: (\d+) right",
        "failed": r"\[  FAILED  \] (\d+) test|, (\d+) wrong; ",
        "skipped": r"\[  SKIPPED \] (\d+) test|, (\d+) unsupported, ",
    }.items()}
    suite.passed += count["passed"]
    suite.skipped += count["skipped"]
    if count["failed"]:
        suite.failed += count["failed"]
        suite.failures.append(name)
    elif entry["result"] not in ("OK", "SKIP", "EXPECTEDFAIL"):
        suite.fail(f"{name} ({entry['result'].lower()})")


def suite_meson(suite, context):
    log = context.build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    run([VENV / "meson", "test", "-C", context.build, "--no-rebuild", "--suite", suite.name,
         "--print-errorlogs", "--quiet", "--timeout-multiplier",
         "10" if context.sanitizer else "3"], context.env, context.limit_s)
    if not log.is_file():
        suite.fail("meson test left no log")
        return
    for line in log.read_text(encoding="utf-8").splitlines():
        count_meson_test(suite, json.loads(line))


def suite_fuzz(suite, context):
    for program in sorted((context.build / "test" / "fuzz").glob("fuzz_*")):
        if not program.is_file() or not os.access(program, os.X_OK):
            continue
        corpus = ROOT / "test" / "fuzz" / "corpus" / program.name.removeprefix("fuzz_")
        seconds = 60 if context.all else 2
        command = [program, "-seconds", str(seconds)] + ([corpus] if corpus.is_dir() else [])
        if run(command, context.env, seconds + 120, context.build) == 0:
            suite.passed += 1
        else:
            suite.fail(f"{program.name} (its input: {context.build}/crash-{program.name})")


def suite_pytest(suite, context):
    report = context.build / f"pytest-{suite.name}.xml"
    report.unlink(missing_ok=True)
    marker = "" if context.all else "not slow"
    if context.sanitizer:
        marker = "not slow and not speed" + (" and threads" if context.sanitizer == "tsan" else "")
    code = run([VENV / "python", "-m", "pytest", "-q", "--durations=5", "--durations-min=5",
                "-p", "no:cacheprovider", "-m", marker, f"--junitxml={report}",
                ROOT / "test" / suite.name], context.env, context.limit_s)
    if not report.is_file():
        suite.fail(f"{suite.name} (stopped after {context.limit_s} s)" if code is None
                   else f"{suite.name} (pytest ended with code {code})")
        return
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            suite.fail(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            suite.skipped += 1
        else:
            suite.passed += 1
    if code not in (0, 1, 5) and not suite.failed:
        suite.fail(f"{suite.name} (pytest ended with code {code})")


def suite_names(context):
    """In the order of running: what is quick comes first."""
    folders = sorted({path.parent.name for path in (ROOT / "test").glob("*/test_*.py")})
    if context.sanitizer:
        return ["unit"] + folders
    meson = [name for name in meson_suites(context.build)
             if context.all or not name.endswith("-slow")]
    return ["tidy"] + meson + ["fuzz"] + folders


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*")
    parser.add_argument("--all", action="store_true", help="also what is marked slow")
    parser.add_argument("--sanitizer", choices=sorted(SANITIZER_ENV))
    context = parser.parse_args()
    context.build = ROOT / (f"build-{context.sanitizer}" if context.sanitizer else "build")
    context.limit_s = (LIMIT_ALL_S if context.all else
                       LIMIT_SANITIZER_S if context.sanitizer else LIMIT_S)
    context.env = dict(os.environ, MG_BUILD=str(context.build), PYTHONDONTWRITEBYTECODE="1",
                       MG_CHECK_ALL="1" if context.all else "0",
                       **SANITIZER_ENV.get(context.sanitizer, {}))
    known = suite_names(context)
    for name in context.suites:
        if name not in known:
            parser.error(f"no suite \"{name}\"; there are: {' '.join(known)}")

    kinds = {"tidy": suite_tidy, "fuzz": suite_fuzz}
    kinds |= {name: suite_meson for name in meson_suites(context.build)}
    suites = []
    for name in context.suites or known:
        suite = Suite(name)
        suites.append(suite)
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        kinds.get(name, suite_pytest)(suite, context)
        suite.seconds = time.monotonic() - start

    print(f"\n{'suite':<12} {'passed':>7} {'failed':>7} {'skipped':>7} {'minutes':>8}")
    for suite in suites:
        print(f"{suite.name:<12} {suite.passed:>7} {suite.failed:>7} {suite.skipped:>7} "
              f"{suite.seconds / 60:>8.1f}")
    for suite in suites:
        for what in suite.failures:
            print(f"failed: {suite.name}: {what}")
    passed = sum(suite.passed for suite in suites)
    failed = sum(suite.failed for suite in suites)
    print(f"\n{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
