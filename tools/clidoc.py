"""Writes docs/cli.md from the program's own help pages, so that it cannot be wrong.

tools/clidoc.py            write docs/cli.md
tools/clidoc.py --check    fail when it is not what the program says
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"
HEAD = """# Every command and option

Written by `tools/clidoc.py` from `merganser COMMAND --help`.

An option is a flag (`--data-dir X` or `--data-dir=X`), a variable of the environment
(`MERGANSER_DATA_DIR`) or a line of the file of `--config` (`data-dir = X`); the flag beats the
environment, which beats the file. One file may serve several commands. What is unknown or ill-typed
is an error that names it. `--print-config` shows every option as it stands and where that came from
(`--print-config=json` for programs), and its page is a file for `--config`; secrets are not in it.
Sizes take units (`512MB`, `4GiB`), times too (`500ms`, `30s`, `5m`).

Passwords: the flag, `MERGANSER_PASSWORD`, `--password-file FILE` (its first line), or a prompt.

Exit codes: 0 done, 1 usage or local error, 2 cannot connect or connection lost, 3 a statement
failed, 4 timed out or cancelled, 5 outcome unknown, 130 interrupted.

The manifest of a cluster (shards, slots, rows, hashes, versions) is written by `merganser cluster
manifest` from its data directory; `merganser cluster shards` asks a running server.
"""


def run(program, *args):
    return subprocess.run([program, *args], check=True, capture_output=True, text=True).stdout


def commands(program):
    for line in run(program, "--help").splitlines():
        if line.startswith("  ") and not line.startswith("  merganser"):
            yield line[2:21].strip()


def page(program):
    parts = [HEAD]
    for command in commands(program):
        text = run(program, *command.split(), "--help").rstrip()
        parts.append(f"## {command}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main():
    program = ROOT / "build" / "merganser"
    words = [word for word in sys.argv[1:] if word != "--check"]
    text = page(words[0] if words else program)
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/cli.md is not what the program says: run tools/clidoc.py")


if __name__ == "__main__":
    main()
