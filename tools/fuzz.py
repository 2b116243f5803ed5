"""Runs the libFuzzer targets of build-fuzz, each for a while: what `make fuzz` is.

    tools/fuzz.py [--seconds 10] [name ...]

New inputs are kept in build-fuzz/corpus/<name>; the seeds lie in test/fuzz/corpus/<name>. A crash
leaves its input in build-fuzz/crashes/<name>-*; add it to the seeds with the repair.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-fuzz"


def run(program, seconds):
    name = program.name.removeprefix("fuzz_")
    corpus = BUILD / "corpus" / name
    crashes = BUILD / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    seeds = ROOT / "test" / "fuzz" / "corpus" / name
    command = [program, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               "-max_len=65536", "-print_final_stats=1", "-verbosity=1",
               f"-artifact_prefix={crashes}/{name}-", corpus]
    if seeds.is_dir():
        command.append(seeds)
    env = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1")
    ended = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                           errors="replace", text=True)
    units = re.search(r"number_of_executed_units:\s*(\d+)", ended.stderr)
    print(f"{name:<20} {'ok' if ended.returncode == 0 else 'FAILED':<7} "
          f"{units.group(1) if units else '?':>12} inputs", flush=True)
    if ended.returncode != 0:
        print("\n".join(ended.stderr.splitlines()[-60:]), flush=True)
    return ended.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    programs = [path for path in sorted((BUILD / "test" / "fuzz").glob("fuzz_*"))
                if path.is_file() and os.access(path, os.X_OK)
                and (not options.names or path.name.removeprefix("fuzz_") in options.names)]
    results = [run(program, options.seconds) for program in programs]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
