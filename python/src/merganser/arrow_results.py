"""Rows and batches of an Arrow stream, as they come. Needs pyarrow."""
from __future__ import annotations

import re
from typing import Any, Callable, Iterator, Optional

import pyarrow as pa

from .arrow_values import column, type_name
from .errors import OperationalError
from .exchange import Exchange
from .results import Row, Rows, leave
from .sqltypes import SqlType, parse_type

ROWS_AT_ONCE = 8192  # made to Python objects together
LOOKS_TYPED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:\d\d)*")
Describe = Callable[[], Optional[list[str]]]


class ArrowRows(Rows):
    """Rows are made of batches. Arrow has no word for some of DuckDB's types (a UUID is text there); where that matters, describe()
    asks the server for the types, once."""

    def __init__(self, exchange: Exchange, describe: Describe) -> None:
        self._exchange, self._describe = exchange, describe
        source: Any = exchange.read() if exchange.length is not None else exchange.file()
        try:
            self._reader = pa.ipc.open_stream(source)
        except pa.ArrowException as error:
            raise self._broken(error) from error
        self.schema: pa.Schema = self._reader.schema
        super().__init__(self.schema.names, None)
        guessed = [type_name(field.type) for field in self.schema]
        self._guessed, self._sure = [name for name, _ in guessed], all(sure for _, sure in guessed)
        self._kinds: Optional[list[SqlType]] = None
        self._batch: Optional[pa.RecordBatch] = None
        self._row = 0
        self._kept: list[pa.RecordBatch] = []  # read ahead by buffer()
        self._over = False

    @property
    def types(self) -> list[str]:
        if self._types is None:
            found = None if self._sure else self._describe()
            self._types = found if found and len(found) == len(self._guessed) else self._guessed
        return self._types

    def more(self) -> list[Row]:
        while self._batch is None or self._row >= self._batch.num_rows:
            self._batch, self._row = self._next(), 0
            if self._batch is None:
                return []
        piece = self._batch.slice(self._row, ROWS_AT_ONCE)
        self._row += piece.num_rows
        kinds = self._kinds_of(piece)
        if not piece.num_columns:
            return [()] * piece.num_rows
        return list(zip(*(column(array, kind) for array, kind in zip(piece.columns, kinds))))

    def buffer(self) -> None:
        if self._dropped:
            return
        with self.lock:
            try:
                while not self._over:
                    batch = self._read()
                    if batch is not None:
                        self._kept.append(batch)
            except BaseException:
                self.fail()
                raise

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What is left, as batches; rows that were fetched are not in it."""
        rest: Optional[pa.RecordBatch] = None
        with self.lock:
            if self._at < len(self._waiting):  # rows that were made to objects and not taken
                assert self._batch is not None
                self._row -= len(self._waiting) - self._at
                self._waiting, self._at = [], 0
            if self._batch is not None and self._row < self._batch.num_rows:
                rest, self._row = self._batch.slice(self._row), self._batch.num_rows
        if rest is not None:  # not under the lock: nobody knows when the next one is asked for
            yield rest
        while True:
            with self.lock:
                self._check()
                try:
                    batch = self._next()
                except BaseException:
                    self.fail()
                    raise
                if batch is None:
                    self._ended = True
                    return
                self._seen += batch.num_rows
            yield batch

    def close(self) -> None:
        super().close()
        self._over, self._kept, self._batch = True, [], None
        leave(self._exchange, self.drains)

    def _next(self) -> Optional[pa.RecordBatch]:
        if self._kept:
            return self._kept.pop(0)
        while not self._over:
            batch = self._read()
            if batch is not None and batch.num_rows:
                return batch
        return None

    def _read(self) -> Optional[pa.RecordBatch]:
        try:
            return self._reader.read_next_batch()
        except StopIteration:
            self._over = True
            while self._exchange.read1():  # the end, which says that the answer is whole
                pass
            return None
        except pa.ArrowException as error:
            raise self._broken(error) from error

    def _kinds_of(self, batch: pa.RecordBatch) -> list[SqlType]:
        """Types of columns. The server is asked for them only when a text looks like another type's."""
        if self._kinds is None:
            if self._types is None and self._doubtful(batch):
                self._kinds = [parse_type(text) for text in self.types]
                return self._kinds
            names = self._types or self._guessed
            kinds = [parse_type(text) for text in names]
            if self._types is None and not self._sure:
                return kinds  # another batch may hold what this one does not
            self._kinds = kinds
        return self._kinds

    def _doubtful(self, batch: pa.RecordBatch) -> bool:
        return not self._sure and any(_may_be_other(array) for array in batch.columns)

    def _broken(self, error: Exception) -> OperationalError:
        self._exchange.close()
        return OperationalError(f"the answer of {self._exchange.server} is no whole Arrow stream", sqlstate="08P01", detail=str(error))


def _may_be_other(array: pa.Array) -> bool:
    """Whether values of Arrow's type may have to become other objects than it says."""
    kind = array.type
    if pa.types.is_string(kind):
        first = next((value.as_py() for value in array if value.is_valid), None)
        return first is not None and LOOKS_TYPED.fullmatch(first) is not None
    if pa.types.is_decimal(kind):
        return kind.precision == 38 and kind.scale == 0
    if pa.types.is_nested(kind):
        return not type_name(kind)[1]
    return False
