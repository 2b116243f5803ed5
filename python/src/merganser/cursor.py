"""Cursors: PEP 249's, with Arrow and pandas beside it."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional, Sequence

from .errors import InterfaceError, NotSupportedError, ProgrammingError
from .parameters import Parameters
from .results import Row, Rows

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from .connection import Connection

BATCH_ROWS = 1_000_000  # of the iterator over record batches, at most


class Cursor:
    """Runs statements one after the other. For one thread at a time; con.cancel() may come from another one."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.arraysize = 1
        self.lastrowid: Optional[int] = None
        self.query_id: Optional[str] = None  # of the last statement, in cluster.queries and cluster.query_history
        self._rows: Optional[Rows] = None
        self._affected = -1
        self._place = 0
        self._closed = False

    # ---- running ----

    def execute(self, sql: str, parameters: Parameters = None, *, idempotency_key: Optional[str] = None) -> "Cursor":
        """Run one statement. Parameters: a list for ?, ?1 or $1, a dict for $name. idempotency_key: of an earlier attempt
        whose outcome is unknown. Returns the cursor itself; raises DatabaseError."""
        self._start()
        outcome = self.connection._run(sql, parameters, idempotency_key)
        self._rows, self._affected, self.query_id = outcome.rows, outcome.affected, outcome.query_id
        return self

    def executemany(self, sql: str, parameters: Sequence[Parameters]) -> "Cursor":
        """Run a writing statement once for each of the parameters, all or none of it: outside of a transaction it
        makes one of its own. rowcount is the sum."""
        self._start()
        self._affected = self.connection._run_many(sql, parameters)
        return self

    def _start(self) -> None:
        self._check()
        self._drop()
        self._affected, self._place, self.query_id = -1, 0, None

    # ---- rows ----

    @property
    def description(self) -> Optional[list[tuple[str, str, None, None, None, None, None]]]:
        """Name and type of each column, None without a result. A type is the server's name for it, such as "DECIMAL(15,2)",
        and is equal to one of merganser.STRING, BINARY, NUMBER, DATETIME."""
        if self._rows is None:
            return None
        return [(name, kind, None, None, None, None, None) for name, kind in zip(self._rows.columns, self._rows.types)]

    @property
    def rowcount(self) -> int:
        """Rows that were changed, or rows of the answer, -1 while they are still coming."""
        if self._rows is None:
            return self._affected
        if self._affected >= 0:
            return self._affected
        return -1 if self._rows.total is None else self._rows.total

    @property
    def rownumber(self) -> Optional[int]:
        """The place of the next row, from 0; None without a result."""
        return None if self._rows is None else self._place

    def fetchone(self) -> Optional[Row]:
        """The next row, None at the end. Like all that fetches, raises OperationalError when the answer is cut."""
        row = self._result().take_one()
        self._place += row is not None
        return row

    def fetchmany(self, size: Optional[int] = None) -> list[Row]:
        """At most so many rows, arraysize when it is not said; [] at the end."""
        count = self.arraysize if size is None else size
        if count < 0:
            raise InterfaceError("the number of rows is not less than 0")
        rows = self._result().take(count)
        self._place += len(rows)
        return rows

    def fetchall(self) -> list[Row]:
        """All rows that are left."""
        rows = self._result().take(None)
        self._place += len(rows)
        return rows

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    # ---- Arrow and pandas ----

    def arrow(self) -> "pyarrow.Table":
        """The rows that are left as a pyarrow.Table."""
        rows, pa = self._arrow_rows()
        return pa.Table.from_batches(list(rows.batches()), rows.schema)

    def fetch_record_batch(self, rows_per_batch: int = BATCH_ROWS) -> "pyarrow.RecordBatchReader":
        """The rows that are left as a reader of batches, which come as they are asked for; none has more rows than said. Closing the
        cursor, or running something else with it, makes the reader fail."""
        if rows_per_batch < 1:
            raise InterfaceError("a batch has a row or more")
        rows, pa = self._arrow_rows()
        return pa.RecordBatchReader.from_batches(rows.schema, self._pieces(rows, rows_per_batch))

    def df(self, exact: bool = False) -> "pandas.DataFrame":
        """The rows that are left as a pandas.DataFrame. DECIMAL and HUGEINT become float64 as DuckDB does it; with exact they
        stay decimal.Decimal."""
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise NotSupportedError("df() needs pandas: pip install 'merganser[pandas]'") from error
        table = self.arrow()
        if not exact:
            table = _with_floats(table)
        return table.to_pandas(date_as_object=False)

    fetch_arrow_table = arrow
    fetchdf = df

    def _pieces(self, rows: Any, size: int) -> Iterator[Any]:
        """Holds the cursor, which would end the answer when nobody has it any more."""
        for batch in rows.batches():
            for at in range(0, batch.num_rows, size):
                yield batch.slice(at, size)

    def _arrow_rows(self) -> tuple[Any, Any]:
        rows = self._result()
        if not hasattr(rows, "batches"):
            raise NotSupportedError("this answer is not Arrow: rows of RETURNING are not, and without pyarrow none is",
                                    hint="pip install 'merganser[arrow]'")
        import pyarrow
        return rows, pyarrow

    # ---- the end ----

    def close(self) -> None:
        """Drop the result; what is still coming is cancelled. Nothing else can be done with the cursor then."""
        self._drop()
        self._closed = True

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Of PEP 249; nothing needs to be known."""

    def setoutputsize(self, size: int, column: Optional[int] = None) -> None:
        """Of PEP 249; nothing needs to be known."""

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self._drop()
        except Exception:  # the interpreter may be going down
            pass

    def _drop(self) -> None:
        rows, self._rows = getattr(self, "_rows", None), None
        if rows is not None:
            rows.close()

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")
        self.connection._check()

    def _result(self) -> Rows:
        self._check()
        if self._rows is None:
            raise ProgrammingError("there are no rows to fetch: the last statement has no result", sqlstate="24000")
        return self._rows


def _with_floats(table: Any) -> Any:
    import pyarrow as pa
    for place, one in enumerate(table.schema):
        if pa.types.is_decimal(one.type):
            table = table.set_column(place, one.name, table.column(place).cast(pa.float64()))
    return table
