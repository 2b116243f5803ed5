"""Requests to whichever server of a cluster answers, over connections that are kept."""
from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import urlencode

from .errors import Error, InterfaceError, OperationalError, QueryCanceled, UnknownOutcome, from_answer
from .exchange import Exchange, Lost, NotSent, is_fresh, open_connection
from .options import Options, Server

RETRY_S = 15.0       # how long a request without a time limit is tried again
RETRY_PAUSE_S = 0.2
TIMEOUT_SLACK_S = 5  # the server ends a statement by itself; this is for a server that says nothing
IDLE_MAX = 8         # connections that are kept for later
USER_AGENT = "merganser-python/0.1.0"
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass
class Request:
    """repeatable: sending it twice is like sending it once. server: only this one will do; prefer: this one first.
    final: a 503 ends what it is about, so that it is an answer unless an earlier attempt was lost. timeout: seconds, or None."""

    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    body: Optional[bytes] = None
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = False
    server: Optional[Server] = None
    prefer: Optional[Server] = None
    final: bool = False
    timeout: Optional[float] = None

    def target(self) -> str:
        query = {name: value for name, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(query)}" if query else self.path


class Transport:
    """May be used by several threads at once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._idle: dict[Server, list[http.client.HTTPConnection]] = {}
        self._active: set[Exchange] = set()
        self._first = 0
        self._closed = False
        self._pid = os.getpid()

    def send(self, request: Request, silence: Optional[float] = None) -> Exchange:
        """The answer, of any status but a 503. One that says "again" is tried again, here and at the other servers, within the
        time limit. silence: seconds without a byte after which it counts as lost, of an answer that never ends. Raises
        OperationalError, InterfaceError for headers that are none, and UnknownOutcome when a write may have been done."""
        _check_headers(request.headers)
        deadline = time.monotonic() + (request.timeout or RETRY_S)
        lost = False       # an attempt was on its way when its connection broke, here or behind the server
        refused = 0        # servers in a row that could not be reached
        prefer = request.prefer
        while True:
            server, prefer = request.server or prefer or self._current(), None
            pause = RETRY_PAUSE_S
            try:
                exchange = self._once(server, request, silence)
                exchange.after_loss = lost
                if exchange.status != 503:
                    return exchange
                failure, again = _refusal(exchange, request)
                lost = lost or failure.retry == "maybe"
                if not again or (request.final and not lost):
                    raise _outcome(request, failure, lost)
                refused = 0
                pause = min(_retry_after(exchange), max(deadline - time.monotonic(), 0))
            except NotSent as error:
                failure = OperationalError(str(error), sqlstate="08001", retry="safe")
                refused += 1
            except Lost as error:
                failure = OperationalError(str(error), sqlstate="08006", retry="maybe")
                lost, refused = True, 0
                if not request.repeatable:
                    raise _outcome(request, failure, lost) from error
            except QueryCanceled as error:
                raise _outcome(request, error, lost="Idempotency-Key" in request.headers) from error
            self._move_on(server)
            servers = 1 if request.server else len(self.options.servers)
            out_of_servers = refused >= servers and not lost
            if out_of_servers or time.monotonic() + pause >= deadline:
                raise _outcome(request, failure, lost)
            if servers == 1 or refused >= servers or failure.status == 503:
                time.sleep(pause)

    def call(self, request: Request) -> Any:
        """The JSON of the answer; its error raises."""
        exchange = self.send(request)
        body = exchange.read()
        if exchange.status >= 300:
            raise from_answer(exchange.status, body)
        return json.loads(body) if body else None

    def cancel(self) -> None:
        """Ends all that is under way; nothing that begins later."""
        with self._lock:
            active = list(self._active)
        for exchange in active:
            exchange.cancel()

    def close(self) -> None:
        """Drops all connections; what is under way is cancelled by the server."""
        with self._lock:
            self._closed = True
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
            active = list(self._active)
        for exchange in active:
            exchange.cancel()
        for connection in idle:
            connection.close()

    def _once(self, server: Server, request: Request, silence: Optional[float]) -> Exchange:
        connection = self._take(server)
        exchange = Exchange(connection, server, self._done)
        with self._lock:
            self._active.add(exchange)
        headers = {"User-Agent": USER_AGENT, **request.headers}
        if self.options.authorization:
            headers["Authorization"] = self.options.authorization
        limit = silence if request.timeout is None else request.timeout + TIMEOUT_SLACK_S
        exchange.send(request.method, request.target(), request.body, headers, limit)
        return exchange

    def _current(self) -> Server:
        with self._lock:
            return self.options.servers[self._first]

    def _move_on(self, server: Server) -> None:
        """The next one, unless another thread has seen to that."""
        with self._lock:
            if self.options.servers[self._first] == server:
                self._first = (self._first + 1) % len(self.options.servers)

    def _take(self, server: Server) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if self._closed:
                    raise InterfaceError("the connection is closed")
                if self._pid != os.getpid():  # after a fork these belong to the parent
                    self._idle, self._active, self._pid = {}, set(), os.getpid()
                kept = self._idle.get(server)
                connection = kept.pop() if kept else None
            if connection is None:
                return open_connection(server, self.options)
            if is_fresh(connection):
                return connection
            connection.close()

    def _done(self, exchange: Exchange, reusable: bool) -> None:
        with self._lock:
            self._active.discard(exchange)
            kept = self._idle.setdefault(exchange.server, [])
            keep = reusable and not self._closed and len(kept) < IDLE_MAX
            if keep:
                kept.append(exchange._connection)
        if reusable and not keep:
            exchange._connection.close()


def _check_headers(headers: dict[str, str]) -> None:
    """Before anything is sent: http.client refuses such a value in the middle of a request."""
    for name, value in headers.items():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise InterfaceError(f"{name} cannot hold {value!r}: only characters of ISO 8859-1") from None
        if CONTROL.search(value):
            raise InterfaceError(f"{name} cannot hold {value!r}: there are control characters in it")


def _refusal(exchange: Exchange, request: Request) -> tuple[Error, bool]:
    """A 503, and whether the same request may be sent again after it. A transaction is over by it: a second try would only hear so."""
    told = exchange.header("Retry-After") is not None
    error = exchange.error()
    if not request.repeatable and (request.server is not None or error.retry == "maybe"):
        return error, False
    return error, told or error.retry == "safe"


def _retry_after(exchange: Exchange) -> float:
    try:
        return max(float(exchange.header("Retry-After") or 1), RETRY_PAUSE_S)
    except ValueError:
        return 1.0


def _outcome(request: Request, failure: Error, lost: bool) -> Error:
    """What to raise in the end: a write that was on its way once may have been done."""
    key = request.headers.get("Idempotency-Key")
    if not lost or (key is None and request.repeatable):
        return failure
    if key is None and request.server is not None:
        return failure  # a statement of a transaction: without its COMMIT nothing is done
    unknown = UnknownOutcome(f"nobody knows whether it was done: {failure.message}", sqlstate="40003", retry="maybe",
                             hint="Look before you do it again, or send it again with the same idempotency_key.")
    unknown.idempotency_key = key
    return unknown
