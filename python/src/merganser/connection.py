"""Connections: statements, transactions, sessions."""
from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence

from . import errors
from .cursor import Cursor
from .errors import Error, InterfaceError, OperationalError, ProgrammingError, UnknownOutcome
from .exchange import Exchange
from .options import Options, Server
from .parameters import Parameters, bind, kind_of
from .query import Query
from .results import ListRows, Rows, json_rows
from .settings import Settings
from .sqltext import Statement, read_statement
from .transport import Request, Transport

if TYPE_CHECKING:
    from .kv import Namespace

ARROW = "application/vnd.apache.arrow.stream"
WIDEST = "DECIMAL(38,0)"        # what the server makes of a HUGEINT in Arrow
DESCRIBED_MAX = 256             # statements whose types are remembered
LIST_STATEMENTS = 5_000         # in one request of executemany
LIST_BYTES = 4 << 20
INSERT_ROWS = 2_000             # of one statement, when executemany makes one of several
INSERT_VALUES = 20_000
BUSY_PAUSE_S = 0.05
SEEN_MAX = 8                    # answers of which it is remembered how far they have seen


@dataclass
class Outcome:
    """Of a statement: rows, or how many were changed (-1: it is not said)."""

    rows: Optional[Rows] = None
    affected: int = -1
    query_id: Optional[str] = None


@dataclass
class Transaction:
    """A handle, which lives at one server."""

    id: str
    server: Server
    rows: Optional["weakref.ref[Rows]"] = None  # a result of it that may still be coming


class Connection:
    """One user's session with a cluster. Threads may share it; they then share its transaction and its settings, too.

    autocommit: True (the default): a statement outside of BEGIN ... COMMIT is done when it returns. False: the first
    statement begins a transaction, as PEP 249 has it. It can be set while no transaction is open.
    """

    Warning, Error, InterfaceError, DatabaseError = errors.Warning, errors.Error, errors.InterfaceError, errors.DatabaseError
    DataError, OperationalError, IntegrityError = errors.DataError, errors.OperationalError, errors.IntegrityError
    InternalError, ProgrammingError, NotSupportedError = errors.InternalError, errors.ProgrammingError, errors.NotSupportedError

    def __init__(self, options: Options, autocommit: bool = True, idempotent: bool = True, use_arrow: bool = True) -> None:
        """idempotent: writes carry keys. use_arrow: ask for Arrow; the caller has seen that pyarrow is there."""
        self.settings = Settings()
        self._options, self._autocommit, self._idempotent, self._use_arrow = options, autocommit, idempotent, use_arrow
        self._transport = Transport(options)
        self._lock = threading.RLock()  # of the transaction, and what is remembered
        self._transaction: Optional[Transaction] = None
        self._described: dict[Any, Optional[list[str]]] = {}
        self._seen: list[str] = []
        self._closed = False

    # ---- statements ----

    def cursor(self) -> Cursor:
        """A new cursor."""
        self._check()
        return Cursor(self)

    def execute(self, sql: str, parameters: Parameters = None, *, idempotency_key: Optional[str] = None) -> Cursor:
        """cursor().execute(...)."""
        return self.cursor().execute(sql, parameters, idempotency_key=idempotency_key)

    def executemany(self, sql: str, parameters: Sequence[Parameters]) -> Cursor:
        """cursor().executemany(...)."""
        return self.cursor().executemany(sql, parameters)

    def sql(self, sql: str, parameters: Parameters = None) -> Query:
        """A query that runs when its rows are asked for: con.sql("...").df()."""
        self._check()
        return Query(self, sql, parameters)

    def kv(self, namespace: str = "default") -> "Namespace":
        """Keys and values of a namespace. They take no part in transactions."""
        from .kv import Namespace
        self._check()
        return Namespace(self._transport, namespace)

    def cancel(self) -> None:
        """End what runs on this connection now, from another thread; whoever waits for it gets QueryCanceled (or UnknownOutcome,
        of a write that the server may go on with). A transaction can then only be rolled back."""
        self._transport.cancel()

    # ---- transactions ----

    @property
    def autocommit(self) -> bool:
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if self._transaction is not None:
            raise ProgrammingError("autocommit cannot change while a transaction is open", sqlstate="25001")
        self._autocommit = bool(value)

    @property
    def in_transaction(self) -> bool:
        """Whether one is open, a failed one too."""
        return self._transaction is not None

    def begin(self, read_only: bool = False) -> None:
        """Begin a transaction; raises ProgrammingError when one is open."""
        self._check()
        with self._lock:
            if self._transaction is not None:
                raise ProgrammingError("there is already a transaction in progress", sqlstate="25001")
            exchange = self._transport.send(Request("POST", "/db/tx", body=json.dumps({"read_only": read_only}).encode(),
                                                    headers={"Content-Type": "application/json"}, repeatable=True,
                                                    timeout=self._options.timeout))
            self._transaction = Transaction(self._document(exchange)["result"]["id"], exchange.server)

    @contextlib.contextmanager
    def transaction(self, read_only: bool = False) -> Iterator["Connection"]:
        """A block that is one transaction: commits at its end, rolls back when it fails."""
        self.begin(read_only)
        try:
            yield self
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def commit(self) -> None:
        """Commit the open transaction; nothing when there is none. Raises SerializationFailure when another one was first (run the
        whole transaction again), UnknownOutcome when nobody knows whether it is done. In either case it is over."""
        self._check()
        with self._lock:
            transaction, self._transaction = self._transaction, None
            if transaction is None:
                return
            try:
                self._finish_rows(transaction)
            except BaseException:
                self._forget(transaction)
                raise
            key = str(uuid.uuid4())
            request = Request("POST", f"/db/tx/{transaction.id}/commit", headers={"Idempotency-Key": key}, repeatable=True,
                              prefer=transaction.server, final=True, timeout=self._options.timeout)
            try:
                exchange = self._transport.send(request)
            except UnknownOutcome:
                raise
            except Error:
                self._forget(transaction)
                raise
            try:
                self._document(exchange)
            except Error as error:
                if error.status == 404 and (exchange.after_loss or exchange.server != transaction.server):
                    unknown = UnknownOutcome("the server of the transaction was lost during its COMMIT", sqlstate="40003", retry="maybe",
                                             hint="Read before you run it again.")
                    unknown.idempotency_key = key
                    raise unknown from error
                if error.sqlstate == "25P02":
                    self._forget(transaction)
                raise

    def rollback(self) -> None:
        """Roll the open transaction back; nothing when there is none. It is over also when the server is gone."""
        self._check()
        with self._lock:
            transaction, self._transaction = self._transaction, None
            if transaction is not None:
                rows = transaction.rows() if transaction.rows else None
                if rows is not None:
                    rows.drains = False
                    rows.close()
                self._forget(transaction)

    def _forget(self, transaction: Transaction) -> None:
        """A server that does not hear of it rolls it back by itself."""
        request = Request("POST", f"/db/tx/{transaction.id}/rollback", server=transaction.server, repeatable=True,
                          timeout=self._options.connect_timeout)
        deadline = time.monotonic() + self._options.connect_timeout
        try:
            while True:
                exchange = self._transport.send(request)
                exchange.read()
                if exchange.status != 429 or time.monotonic() > deadline:  # a statement of it, whose end is on its way
                    return
                time.sleep(BUSY_PAUSE_S)
        except OperationalError:
            pass

    @staticmethod
    def _finish_rows(transaction: Transaction) -> None:
        rows = transaction.rows() if transaction.rows else None
        if rows is not None:
            rows.buffer()
        transaction.rows = None

    # ---- the end ----

    def close(self) -> None:
        """Roll back what is open, and close; more than once is fine."""
        if self._closed:
            return
        self.rollback()
        self._closed = True
        self._transport.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        """Commit when all went well, else roll back; and close."""
        try:
            if kind is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self.close()

    def __del__(self) -> None:
        transport = getattr(self, "_transport", None)
        if transport is not None and not self._closed:
            transport.close()

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed")

    # ---- for cursors ----

    def _log_in(self) -> None:
        """Whether a server is there and lets this user in; raises OperationalError."""
        self._document(self._query("SELECT 1", None, None, False))

    def _run(self, sql: str, parameters: Parameters, key: Optional[str]) -> Outcome:
        statement = read_statement(sql)
        if statement.words:
            return self._run_own(statement)
        text, values = bind(statement, parameters)
        if self._transaction is None and (self._autocommit or statement.verb in ("CANCEL", "KILL")):
            return self._read(statement, text, values, None) if statement.reads else self._write(text, values, key)
        with self._lock:
            if self._transaction is None:
                self.begin()
            assert self._transaction is not None
            self._finish_rows(self._transaction)
            if not statement.reads:
                return self._write(text, values, key)
            outcome = self._read(statement, text, values, self._transaction)
            assert outcome.rows is not None
            outcome.rows.drains = True
            outcome.rows.lock = self._lock  # one for both: who reads may ask for types, who goes on takes the rows into memory
            self._transaction.rows = weakref.ref(outcome.rows)
            return outcome

    def _run_own(self, statement: Statement) -> Outcome:
        words = [token.text.upper() for token in statement.words]
        if ";" in words:
            raise ProgrammingError("one statement at a time", sqlstate="42601")
        if statement.verb in ("SET", "RESET"):
            self.settings.apply(statement)
        elif statement.verb in ("BEGIN", "START"):
            self.begin(read_only=words[-2:] == ["READ", "ONLY"])
        elif statement.verb in ("COMMIT", "END"):
            self.commit()
        elif len(words) > 1 and words[1] == "TO":
            raise errors.NotSupportedError("there are no savepoints", sqlstate="0A000")
        else:
            self.rollback()
        return Outcome()

    def _read(self, statement: Statement, text: str, values: Any, transaction: Optional[Transaction]) -> Outcome:
        arrow = self._use_arrow and statement.described
        exchange = self._query(text, values, transaction, arrow)
        if exchange.status != 200:
            error = exchange.error()
            if not (arrow and transaction is None and error.sqlstate == "22P02" and WIDEST in error.message):
                raise error
            exchange = self._query(text, values, transaction, False)  # a HUGEINT of 39 digits, which Arrow cannot hold
            if exchange.status != 200:
                raise exchange.error()
        self._remember_seen(exchange)
        kind = exchange.header("Content-Type") or ""
        if kind == ARROW:
            from .arrow_results import ArrowRows
            describe = self._describer(text, values, transaction)
            rows: Rows = ArrowRows(exchange, describe)
        elif kind.startswith("application/json") and statement.verb != "COPY":
            rows = json_rows(exchange)
        else:
            exchange.close()
            raise errors.NotSupportedError("COPY ... TO STDOUT has no rows", sqlstate="0A000",
                                           hint="The shell's \\copy and GET /db/query give its bytes.")
        return Outcome(rows, query_id=exchange.header("Merganser-Query"))

    def _query(self, text: str, values: Any, transaction: Optional[Transaction], arrow: bool) -> Exchange:
        query: dict[str, Any] = {**self.settings.query(True), "timeout": self._time_limit()}
        if not arrow:
            query["pretty"] = "true"
        if transaction:
            query["tx"] = transaction.id
        headers = {"Content-Type": "application/json", "Accept": ARROW if arrow else "application/json", **self._seen_header()}
        return self._transport.send(Request("POST", "/db/query", query, _body(text, values), headers, repeatable=transaction is None,
                                            server=transaction.server if transaction else None, timeout=self._options.timeout))

    def _describer(self, text: str, values: Any, transaction: Optional[Transaction]) -> Callable[[], Optional[list[str]]]:
        """Types by DESCRIBE, which are remembered for a text until this connection defines something."""
        me = weakref.ref(self)
        remembered = (text, json.dumps(values, default=str) if values else None)

        def describe() -> Optional[list[str]]:
            connection = me()
            if connection is None:
                return None
            with connection._lock:
                if remembered in connection._described:
                    return connection._described[remembered]
                if transaction is not None:
                    connection._finish_rows(transaction)
                inside = transaction if transaction is connection._transaction else None
                try:
                    exchange = connection._query(f"DESCRIBE {text}", values, inside, False)
                    found = [row[1] for row in connection._document(exchange)["result"]["values"]]
                except Error:
                    found = None
                if len(connection._described) >= DESCRIBED_MAX:
                    connection._described.clear()
                connection._described[remembered] = found
                return found
        return describe

    def _write(self, text: str, values: Any, key: Optional[str]) -> Outcome:
        if key is None and self._transaction is None and self._idempotent:
            key = str(uuid.uuid4())
        exchange = self._execute(_body(text, values), key)
        if exchange.status == 400 and key:
            error = exchange.error()
            if error.sqlstate != "0A000" or "Idempotency-Key" not in error.message:
                raise error
            exchange = self._execute(_body(text, values), None)  # of the few that take none; nothing was done
        result = self._document(exchange, key)["result"]
        self._described.clear()
        affected = result.get("rows_affected")
        rows = ListRows(result["columns"], result["types"], result["values"]) if "columns" in result else None
        return Outcome(rows, -1 if affected is None else affected, exchange.header("Merganser-Query"))

    def _execute(self, body: bytes, key: Optional[str]) -> Exchange:
        transaction = self._transaction
        query: dict[str, Any] = {**self.settings.query(False), "timeout": self._time_limit()}
        headers = {"Content-Type": "application/json", **self._seen_header()}
        if transaction:
            query["tx"] = transaction.id
        elif key:
            headers["Idempotency-Key"] = key
        return self._transport.send(Request("POST", "/db/execute", query, body, headers, repeatable=bool(key) and not transaction,
                                            server=transaction.server if transaction else None, timeout=self._options.timeout))

    def _run_many(self, sql: str, parameters: Sequence[Parameters]) -> int:
        statement = read_statement(sql)
        if statement.reads or statement.words:
            raise ProgrammingError("executemany() is for statements that write", sqlstate="42601")
        parameters = list(parameters)
        bound = [bind(statement, one) for one in parameters]
        chunks = _chunks(_rows_together(statement, bound, parameters) if statement.row else bound)
        if not chunks:
            return 0
        if self._transaction is None and self._autocommit and len(chunks) == 1:
            if len(chunks[0]) == 1:
                return self._write(chunks[0][0]["sql"], chunks[0][0].get("params"), None).affected
            key = str(uuid.uuid4()) if self._idempotent else None
            return self._list(chunks[0], key, alone=True)
        with self._lock:
            own = self._transaction is None and self._autocommit
            if self._transaction is None:
                self.begin()
            assert self._transaction is not None
            try:
                self._finish_rows(self._transaction)
                count = sum(self._list(chunk, None, alone=False) for chunk in chunks)
            except BaseException:
                if own:
                    self.rollback()
                raise
            if own:
                self.commit()
            return count

    def _list(self, statements: list[dict[str, Any]], key: Optional[str], alone: bool) -> int:
        document: dict[str, Any] = {"statements": statements}
        if alone:
            document["transaction"] = True
        result = self._document(self._execute(json.dumps(document).encode(), key), key)["result"]
        counts = [one.get("rows_affected") for one in result]
        return -1 if None in counts else sum(counts)

    def _document(self, exchange: Exchange, key: Optional[str] = None) -> Any:
        body = exchange.read()
        self._remember_seen(exchange)
        if exchange.status >= 300:
            error = errors.from_answer(exchange.status, body)
            if isinstance(error, UnknownOutcome):
                error.idempotency_key = key
            raise error
        return json.loads(body)

    def _time_limit(self) -> Optional[str]:
        return f"{max(int(self._options.timeout * 1000), 1)}ms" if self._options.timeout else None

    # ---- what this session has seen (docs/http.md) ----

    def _seen_header(self) -> dict[str, str]:
        """Linearizable reads need none."""
        if self.settings.get("read_consistency", "linearizable") == "linearizable" or not self._seen:
            return {}
        return {"Merganser-Seen": ",".join(self._seen)}

    def _remember_seen(self, exchange: Exchange) -> None:
        seen = exchange.header("Merganser-Seen")
        if seen:
            with self._lock:
                told = exchange.sent.get("Merganser-Seen", "").split(",")  # the answer has seen that as well
                self._seen = [one for one in self._seen if one not in told and one != seen][1 - SEEN_MAX:] + [seen]


def _body(text: str, values: Any) -> bytes:
    return json.dumps({"sql": text} if values is None else {"sql": text, "params": values}).encode()


def _rows_together(statement: Statement, bound: list[tuple[str, Any]], parameters: Sequence[Any]) -> list[tuple[str, Any]]:
    """INSERT ... VALUES (...) for each of many as a few with many rows, which take a hundredth of the time. Only neighbours of the same
    types: VALUES makes one type of what stands in a column, so that an int beside a float would become one."""
    assert statement.row is not None
    begin, end = statement.row
    tail = len(statement.sql) - end
    count = max(min(INSERT_ROWS, INSERT_VALUES // len(statement.parameters)), 1)
    out: list[tuple[str, Any]] = []
    rows: list[str] = []
    values: list[Any] = []
    kinds: list[Optional[str]] = []
    size = 0
    for (text, one), given in zip(bound, parameters):
        own = [kind_of(value) for value in given]
        fits = all(a is None or b is None or a == b for a, b in zip(kinds, own))
        if rows and (not fits or len(rows) >= count or size > LIST_BYTES):
            out.append((statement.sql[:begin] + ", ".join(rows), values))
            rows, values, kinds, size = [], [], [], 0
        kinds = [a or b for a, b in zip(kinds, own)] if kinds else own
        rows.append(text[begin:len(text) - tail])
        size += len(rows[-1]) + sum(len(value) for value in one if isinstance(value, str))
        values += one
    if rows:
        out.append((statement.sql[:begin] + ", ".join(rows), values))
    return out


def _chunks(bound: list[tuple[str, Any]]) -> list[list[dict[str, Any]]]:
    """Lists of statements that fit a request."""
    chunks: list[list[dict[str, Any]]] = []
    size = LIST_BYTES
    for text, values in bound:
        one = {"sql": text} if values is None else {"sql": text, "params": values}
        length = len(text) + len(json.dumps(values))
        if size + length > LIST_BYTES or len(chunks[-1]) >= LIST_STATEMENTS:
            chunks.append([])
            size = 0
        chunks[-1].append(one)
        size += length
    return chunks
