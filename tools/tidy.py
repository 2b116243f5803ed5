"""The mechanical rules of the house, checked as a test.

    tools/tidy.py             check; one line per finding, non-zero when there is one
    tools/tidy.py --format    and compare with clang-format (told, not failed)
    tools/tidy.py --fix       let clang-format rewrite the C files

Each rule is a function over one file that yields (line, message). What a folder may include is the
table below: includes point only downwards.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["base", "os", "codec", "net", "client", "store", "raft", "catalog", "sql", "auth",
          "replica", "exec", "session", "job", "door", "server", "cli"]
RANK = {name: rank for rank, name in enumerate(LAYERS)}

# Foreign headers that only some files may see: pattern of the header, pattern of the file.
FENCES = [
    (r"duckdb\.h", r"src/store/duck[^/]*", "only src/store/duck* includes duckdb.h"),
    (r"(.*/)?raft\.h", r"src/raft/core_[^/]*", "only src/raft/core_* includes the Raft library"),
    (r"openssl/.*", r"src/(net|auth)/.*", "only src/net and src/auth include OpenSSL"),
]
BANNED = ["sprintf", "vsprintf", "strcpy", "strcat", "gets", "strtok", "atoi", "atol", "alloca"]
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
LOG_CALL = re.compile(r'\bmg_log\((?:[^;"]|"(?:\\.|[^"\\])*")*;')
LOG_OWN_KEY = re.compile(r'[" ](ts|level|node|event)=')
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
LINES_MAX = 1000
COLUMNS_MAX = 100
COLUMNS_MAX_PYTHON = 140  # no formatter of ours breaks its lines
TAB = 4
CODE = {".c", ".h", ".cpp"}
TEXT = CODE | {".py", ".sh", ".build", ".options", ".md", ".sql", ".yml", ".yaml", ""}


def without_comments(text):
    """The same text with comments and string contents blanked, line for line."""
    def blank(match):
        word = match.group(0)
        if word[0] in "\"'":
            return word[0] + word[0]
        return re.sub(r"[^\n]", " ", word)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def rule_includes(path, text):
    folder = path.split("/")[1] if path.startswith("src/") else None
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        if not path.startswith("src/"):
            continue
        for header, files, message in FENCES:
            if re.fullmatch(header, name) and not re.fullmatch(files, path):
                yield number, message
        if quote == '"' and "/" in name and folder in RANK:
            target = name.split("/")[0]
            if target not in RANK:
                yield number, f'include "{name}" names no layer'
            elif RANK[target] > RANK[folder]:
                yield number, f"{folder} includes {target}, which lies above it"


def rule_calls(path, text):
    for number, line in enumerate(without_comments(text).splitlines(), 1):
        match = BANNED_CALL.search(line)
        if match:
            yield number, f"{match.group(1)}() is banned"


def rule_log(path, text):
    for call in LOG_CALL.finditer(text):
        match = LOG_OWN_KEY.search(call.group(0))
        if match:
            yield text.count("\n", 0, call.start()) + 1, f"a log line has the key {match.group(1)} of its own (src/base/log.h)"


def rule_head(path, text):
    if not text.startswith("/*"):
        yield 1, "starts without a comment that says what the file is"


def rule_shape(path, text):
    lines = text.splitlines()
    if len(lines) > LINES_MAX:
        yield LINES_MAX, f"{len(lines)} lines: over {LINES_MAX}, so it holds two things"
    columns_max = COLUMNS_MAX_PYTHON if str(path).endswith(".py") else COLUMNS_MAX
    for number, line in enumerate(lines, 1):
        if len(line.expandtabs(TAB)) > columns_max:
            yield number, f"{len(line.expandtabs(TAB))} columns, over {columns_max}"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
    if text and not text.endswith("\n"):
        yield len(lines), "no line end at the end of the file"


def rule_finished(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        match = UNFINISHED.search(line)
        if match and not re.search(r"#\d+", line):
            yield number, f"{match.group(1)} is left"


def rule_listed(path, text):
    """A source file that its meson.build does not name would silently not be built."""
    file = ROOT / path
    if file.suffix == ".h" or path == "src/cli/main.c":
        return
    listing = file.parent / "meson.build"
    name = file.name
    if path.startswith("test/unit/test_") or path.startswith("test/fuzz/fuzz_"):
        name = file.stem.split("_", 1)[1]
    elif not path.startswith("src/"):
        return
    if not listing.is_file() or f"'{name}'" not in listing.read_text(encoding="utf-8"):
        yield 1, f"not listed in {listing.relative_to(ROOT)}"


def rules_for(path):
    suffix = pathlib.PurePath(path).suffix
    rules = []
    if suffix in CODE and path.startswith(("src/", "test/", "include/", "bench/")):
        rules += [rule_includes, rule_calls, rule_log, rule_head, rule_shape, rule_listed, rule_finished]
    elif suffix in {".py", ".sh", ".build"}:
        rules += [rule_shape, rule_finished]
    elif suffix in TEXT:
        rules += [rule_finished]
    return rules


def files():
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(path for path in set(listed.splitlines()) if (ROOT / path).is_file())


def check(paths):
    count = 0
    for path in paths:
        rules = rules_for(path)
        if not rules:
            continue
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for rule in rules:
            for number, message in rule(path, text):
                print(f"{path}:{number}: {message}")
                count += 1
    for layer in LAYERS:
        if not (ROOT / "src" / layer / "README.md").is_file():
            print(f"src/{layer}: no README.md")
            count += 1
    return count


def clang_format(paths, fix):
    code = [path for path in paths if pathlib.PurePath(path).suffix in CODE]
    if fix:
        subprocess.run(["clang-format", "-i", *code], cwd=ROOT, check=True)
        return
    differ = 0
    for path in code:
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", path], cwd=ROOT,
                             capture_output=True)
        differ += run.returncode != 0
    print(f"clang-format would change {differ} of {len(code)} files (make fmt)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", action="store_true")
    parser.add_argument("--fix", action="store_true")
    options = parser.parse_args()
    paths = files()
    if options.fix:
        clang_format(paths, fix=True)
        return 0
    count = check(paths)
    print(f"tidy: {len(paths)} files, {count} findings")
    if options.format:
        clang_format(paths, fix=False)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
