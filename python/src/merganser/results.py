"""Rows of an answer, as they come: of JSON, and of lists that are there already. Arrow's are in arrow_results.py."""
from __future__ import annotations

import json
import threading
from typing import Any, Optional, Sequence

from .errors import Error, InterfaceError, OperationalError
from .exchange import Exchange
from .sqltypes import parse_type
from .values import from_json, maybe

Row = tuple[Any, ...]


class Rows:
    """Rows that wait, and where more come from. Subclasses give more(): the next rows, [] at the end. A result is
    read by one thread; buffer() may be called by another, for a transaction that goes on."""

    def __init__(self, columns: Sequence[str], types: Optional[Sequence[str]]) -> None:
        """types: None when the subclass finds them later."""
        self.columns = list(columns)
        self._types = list(types) if types is not None else None
        self._waiting: list[Row] = []
        self._at = 0
        self._ended = False
        self._dropped = False  # closed before the end
        self.drains = False    # close() reads what is left: in a transaction an answer that is cut would end that, too
        self.lock = threading.RLock()
        self.total: Optional[int] = None  # rows of the whole answer, once they are known
        self._seen = 0

    @property
    def types(self) -> list[str]:
        """The server's names of types, one for each column."""
        assert self._types is not None
        return self._types

    def more(self) -> list[Row]:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more is wanted; who asks all the same hears so, and takes it for no end."""
        self._dropped = self._dropped or not self._ended
        self._ended, self._waiting, self._at = True, [], 0

    def take(self, count: Optional[int]) -> list[Row]:
        """At most so many rows, None: all that are left. [] at the end."""
        with self.lock:
            out: list[Row] = []
            while count is None or len(out) < count:
                if self._at == len(self._waiting) and not self._pull():
                    break
                end = len(self._waiting) if count is None else min(self._at + count - len(out), len(self._waiting))
                out += self._waiting[self._at:end]
                self._at = end
            return out

    def take_one(self) -> Optional[Row]:
        """The next row, None at the end."""
        with self.lock:
            if self._at == len(self._waiting) and not self._pull():
                return None
            self._at += 1
            return self._waiting[self._at - 1]

    def buffer(self) -> None:
        """Take what is still under way into memory, so that the connection can do something else."""
        if self._dropped:
            return
        with self.lock:
            left = self._waiting[self._at:]
            while self._pull():
                left += self._waiting
            self._waiting, self._at = left, 0

    def _check(self) -> None:
        if self._dropped:
            raise InterfaceError("the result was closed before its end")

    def fail(self) -> None:
        """After an error, or Ctrl-C, in the middle: rows may be missing, so none are given any more."""
        self.drains = False
        self.close()

    def _pull(self) -> bool:
        self._check()
        while not self._ended:
            try:
                self._waiting, self._at = self.more(), 0
            except BaseException:
                self.fail()
                raise
            self._seen += len(self._waiting)
            if self._waiting:
                return True
            self._ended, self.total = True, self._seen
        self._waiting, self._at = [], 0
        return False


class Converter:
    """JSON rows as tuples of Python objects."""

    def __init__(self, types: Sequence[str]) -> None:
        converts = [from_json(parse_type(text)) for text in types]
        self._changed = [(place, maybe(convert)) for place, convert in enumerate(converts) if convert]

    def __call__(self, rows: list[list[Any]]) -> list[Row]:
        for place, convert in self._changed:
            for row in rows:
                row[place] = convert(row[place])
        return [tuple(row) for row in rows]


class ListRows(Rows):
    """Rows that are all there."""

    def __init__(self, columns: Sequence[str], types: Sequence[str], values: list[list[Any]]) -> None:
        super().__init__(columns, types)
        self._left: list[Row] = Converter(types)(values)
        self.total = len(self._left)

    def more(self) -> list[Row]:
        rows, self._left = self._left, []
        return rows


class JsonRows(Rows):
    """Rows of ?pretty JSON, of which each has a line of its own, while they come."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._rest, self._complete = exchange, b"", False
        head: dict[str, Any] = {}
        while True:
            line = self._line()
            name, _, value = line.strip().partition(b": ")
            if name == b'"values"':
                break
            if name in (b'"columns"', b'"types"'):
                head[name.decode()[1:-1]] = json.loads(value.rstrip(b","))
        super().__init__(head["columns"], head["types"])
        self._over = value.startswith(b"[]")
        self._convert = Converter(head["types"])

    def more(self) -> list[Row]:
        while not self._over:
            data = self._exchange.read1()
            if not data:
                raise self._broken()
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            rows = []
            for line in lines:
                line = line.strip()
                if line.startswith(b"]"):
                    self._over = True
                    break
                rows.append(line.rstrip(b","))
            if rows:
                return self._convert(json.loads(b"[" + b",".join(rows) + b"]"))
        while self._exchange.read1():  # the end, which says that the answer is whole
            pass
        return []

    def close(self) -> None:
        super().close()
        leave(self._exchange, self.drains)

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            data = self._exchange.read1()
            if not data:
                raise self._broken()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _broken(self) -> OperationalError:
        self._exchange.close()
        return OperationalError(f"the answer of {self._exchange.server} has another form than expected", sqlstate="08P01")


def leave(exchange: Exchange, drains: bool) -> None:
    """Give up an answer, or read it to its end for nothing."""
    try:
        while drains and exchange.read1():
            pass
    except Error:
        pass  # nobody waits for it
    exchange.close()


def json_rows(exchange: Exchange) -> Rows:
    """Of an answer of ?pretty JSON: at once when its length is known, so that the connection is free again."""
    if exchange.length is None:
        return JsonRows(exchange)
    result = json.loads(exchange.read())["result"]
    return ListRows(result["columns"], result["types"], result["values"])
