"""As much of SQL's words as a client needs: what kind of statement a text is, and where its parameters stand."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, Optional

from .errors import ProgrammingError

READS = frozenset(("SELECT", "FROM", "WITH", "VALUES", "TABLE", "PIVOT", "UNPIVOT", "DESCRIBE", "DESC", "SHOW", "SUMMARIZE", "EXPLAIN"))
DESCRIBED = frozenset(("SELECT", "FROM", "WITH", "VALUES", "TABLE", "PIVOT", "UNPIVOT"))
WRITES = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE"))
TOKEN = re.compile(r"""
    (?P<blank>\s+|--[^\n]*)
  | (?P<comment>/\*)
  | (?P<escape>[eE]'(?:\\.|''|[^'\\])*')
  | (?P<text>'(?:''|[^'])*')
  | (?P<name>"(?:""|[^"])*")
  | (?P<dollar>\$(?P<tag>[^\W\d]\w*)?\$)
  | (?P<number>\d[\w.$]*)
  | (?P<parameter>\?\d*|\$\d+|\$[^\W\d]\w*)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<sign>.)
""", re.VERBOSE | re.DOTALL)
COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int


def tokens(sql: str) -> Iterator[Token]:
    """Words, names, texts, numbers, parameters and signs; no blanks and comments. What is not closed ends it: the server says so."""
    at = 0
    while at < len(sql):
        match = TOKEN.match(sql, at)
        assert match is not None and match.lastgroup is not None
        kind = "dollar" if match.group("dollar") else match.lastgroup
        end = match.end()
        if kind == "comment":
            end = _comment_end(sql, at)
        elif kind == "dollar":
            closing = sql.find(match.group(), end)
            end = closing + len(match.group()) if closing >= 0 else len(sql)
        if kind not in ("blank", "comment"):
            yield Token("text" if kind in ("dollar", "escape") else kind, sql[at:end], at)
        at = end


def _comment_end(sql: str, at: int) -> int:
    depth = 0
    for edge in COMMENT_EDGE.finditer(sql, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


@dataclass(frozen=True)
class Statement:
    """verb: the first word, in capitals. reads: it is for /db/query. described: DESCRIBE can tell its types. words: of what
    the client carries out itself (SET, BEGIN, ...), else empty. row: of a plain INSERT ... VALUES (...), where the only row of
    values begins and ends: there may be more rows behind it."""

    sql: str
    verb: str
    reads: bool
    described: bool
    words: tuple[Token, ...]
    parameters: tuple[Token, ...]
    row: Optional[tuple[int, int]]


OWN_VERBS = frozenset(("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SET", "RESET"))


def read_statement(sql: str) -> Statement:
    """What the text is; raises ProgrammingError when it is empty."""
    found = list(tokens(sql))
    while found and found[-1].text == ";":
        found.pop()
    first = next((token for token in found if token.text != "("), None)
    if first is None:
        raise ProgrammingError("there is no statement", sqlstate="42601")
    verb = first.text.upper()
    reads = verb in READS
    if verb == "WITH":
        reads = not _writes_after_with(found)
    elif verb == "COPY":
        reads = any(token.kind == "word" and token.text.upper() == "STDOUT" for token in found)
    return Statement(sql, verb, reads, reads and verb in DESCRIBED, tuple(found) if verb in OWN_VERBS else (),
                     tuple(token for token in found if token.kind == "parameter"), _row_of_values(found))


def _writes_after_with(found: list[Token]) -> bool:
    depth = 0
    for before, token in zip(found, found[1:]):
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "sign" else 0
        if depth == 0 and token.kind == "word" and token.text.upper() in WRITES and before.text == ")":
            return True
    return False


def _row_of_values(found: list[Token]) -> Optional[tuple[int, int]]:
    if [token.text.upper() for token in found[:2]] != ["INSERT", "INTO"] or found[-1].text != ")":
        return None
    depth, place = 0, len(found)
    while place > 0:
        place -= 1
        depth += {")": 1, "(": -1}.get(found[place].text, 0) if found[place].kind == "sign" else 0
        if depth == 0:
            break
    begin = found[place].start
    parameters = [token for token in found if token.kind == "parameter"]
    plain = all(token.text == "?" and token.start > begin for token in parameters)
    alone = place > 2 and found[place - 1].kind == "word" and found[place - 1].text.upper() == "VALUES"
    return (begin, found[-1].start + 1) if plain and parameters and alone else None


def replace_parameters(statement: Statement, types: dict[str, Optional[str]]) -> str:
    """The text with a CAST around each parameter that needs one. types: by parameter's place ("0", "1" of ? in order) or by
    its own text ("$1", "$name", "?2")."""
    out, at, place = [], 0, 0
    for token in statement.parameters:
        key = token.text
        if key == "?":
            key, place = str(place), place + 1
        wanted = types.get(key)
        if wanted:
            out += [statement.sql[at:token.start], wanted.replace("?", token.text)]
            at = token.start + len(token.text)
    return "".join(out) + statement.sql[at:] if out else statement.sql
