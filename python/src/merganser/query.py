"""A query that has not been run yet: what con.sql() gives."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

from .parameters import Parameters
from .results import Row

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from .connection import Connection
    from .cursor import Cursor


class Query:
    """Runs, anew each time, when its rows are asked for; nothing is kept."""

    def __init__(self, connection: "Connection", sql: str, parameters: Parameters) -> None:
        self._connection, self.sql, self.parameters = connection, sql, parameters

    def execute(self) -> "Cursor":
        """Run it, for rows one after the other."""
        return self._connection.execute(self.sql, self.parameters)

    def fetchall(self) -> list[Row]:
        """All rows."""
        with self.execute() as cursor:
            return cursor.fetchall()

    def fetchone(self) -> Optional[Row]:
        """The first row, None when there is none."""
        with self.execute() as cursor:
            return cursor.fetchone()

    def arrow(self) -> "pyarrow.Table":
        """All rows as a pyarrow.Table."""
        with self.execute() as cursor:
            return cursor.arrow()

    def df(self, exact: bool = False) -> "pandas.DataFrame":
        """All rows as a pandas.DataFrame (Cursor.df)."""
        with self.execute() as cursor:
            return cursor.df(exact)

    def fetch_record_batch(self, rows_per_batch: int = 1_000_000) -> "pyarrow.RecordBatchReader":
        """All rows as a reader of batches, which come as they are asked for."""
        return self.execute().fetch_record_batch(rows_per_batch)

    def __iter__(self) -> Iterator[Row]:
        with self.execute() as cursor:
            yield from cursor

    def __repr__(self) -> str:
        return f"<merganser.Query {self.sql[:60]!r}>"

    def show(self, rows: int = 20) -> None:
        """Print the first rows."""
        with self.execute() as cursor:
            found: list[Any] = [tuple(one[0] for one in cursor.description or ())]
            found += [tuple("NULL" if value is None else str(value) for value in row) for row in cursor.fetchmany(rows)]
        widths = [max(len(row[i]) for row in found) for i in range(len(found[0]))]
        for row in found:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
