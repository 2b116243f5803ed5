"""SQL types by the names that the server gives them, and PEP 249's type objects."""
from __future__ import annotations

import datetime
import re
import time
from dataclasses import dataclass
from typing import Optional

TOKEN = re.compile(r"""\s*(?:(?P<name>"(?:""|[^"])*")|(?P<text>'(?:''|[^'])*')|(?P<word>\w+)|(?P<sign>.))""", re.DOTALL)


@dataclass(frozen=True)
class SqlType:
    """base: "DECIMAL", "LIST", "ARRAY", "STRUCT", "MAP", "UNION", "TIME WITH TIME ZONE", ... args: types inside, in order;
    fields: names of a STRUCT's or UNION's members, None for a STRUCT without names; size: of an ARRAY."""

    text: str
    base: str
    args: tuple["SqlType", ...] = ()
    fields: Optional[tuple[str, ...]] = None
    size: int = 0


def parse_type(text: str) -> SqlType:
    """The type of that name. A form that is not known counts as one word, which leaves its values as they come."""
    try:
        return _Parser(text).whole()
    except (IndexError, ValueError):
        return SqlType(text, text)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(match.lastgroup or "", match.group().strip(), match.end()) for match in TOKEN.finditer(text.strip())]
        self.at = 0

    def whole(self) -> SqlType:
        found = self.one()
        if self.at != len(self.tokens):
            raise ValueError(self.text)
        return found

    def peek(self, word: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][1] == word

    def take(self, word: Optional[str] = None) -> str:
        kind, text, _ = self.tokens[self.at]
        if word is not None and text != word:
            raise ValueError(self.text)
        self.at += 1
        return text[1:-1].replace('""', '"') if kind == "name" else text

    def one(self) -> SqlType:
        begin = self.at
        words = [self.take()]
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "word" and words[0] in ("TIME", "TIMESTAMP"):
            words.append(self.take())
        base = " ".join(words)
        args: tuple[SqlType, ...] = ()
        fields: Optional[tuple[str, ...]] = None
        if self.peek("("):
            args, fields = self.inside(base)
        found = SqlType(self.since(begin), base, args, fields)
        while self.peek("["):
            self.take("[")
            size = 0 if self.peek("]") else int(self.take())
            self.take("]")
            found = SqlType(self.since(begin), "ARRAY" if size else "LIST", (found,), size=size)
        return found

    def inside(self, base: str) -> tuple[tuple[SqlType, ...], Optional[tuple[str, ...]]]:
        args, names = [], []
        self.take("(")
        while not self.peek(")"):
            if base in ("STRUCT", "UNION", "MAP"):
                if base != "MAP" and self.named():
                    names.append(self.take())
                args.append(self.one())
            else:
                self.take()  # digits of a DECIMAL, words of an ENUM
            if self.peek(","):
                self.take(",")
        self.take(")")
        return tuple(args), tuple(names) if names else None

    def named(self) -> bool:
        """Whether a name stands before the type: it is quoted, or a word before another word that begins no "WITH TIME ZONE"."""
        if self.tokens[self.at][0] == "name":
            return True
        follows = self.tokens[self.at + 1]
        return follows[0] == "word" and follows[1] != "WITH"

    def since(self, begin: int) -> str:
        start = self.tokens[begin - 1][2] if begin else 0
        return self.text.strip()[start:self.tokens[self.at - 1][2]].strip()


class TypeObject:
    """Of PEP 249: equal to the type codes of its kind, which are the server's names of types."""

    def __init__(self, name: str, *bases: str) -> None:
        self.name, self.bases = name, frozenset(bases)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other.split("(", 1)[0] in self.bases
        return self is other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"merganser.{self.name}"


STRING = TypeObject("STRING", "VARCHAR", "JSON", "ENUM", "UUID", "BIT", "BIGNUM")
BINARY = TypeObject("BINARY", "BLOB")
NUMBER = TypeObject("NUMBER", "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
                    "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
DATETIME = TypeObject("DATETIME", "DATE", "TIME", "TIME_NS", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS",
                      "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "INTERVAL")
ROWID = TypeObject("ROWID")

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:
    """The local date of seconds since 1970."""
    return datetime.date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:
    """The local time of day of seconds since 1970."""
    return datetime.time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:
    """The local time of seconds since 1970."""
    return datetime.datetime(*time.localtime(ticks)[:6])
