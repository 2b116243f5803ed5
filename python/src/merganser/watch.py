"""What changes in keys, as it does: server-sent events, which go on at another server when one is lost."""
from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator, Optional

from .errors import Error, OperationalError, QueryCanceled, from_document
from .exchange import Exchange
from .transport import RETRY_PAUSE_S, RETRY_S, Request, Transport

if TYPE_CHECKING:
    from .kv import Item, Key

ALIVE_S = 45.0                                   # a server that is there sends something each 15 s
GOES_ON = frozenset(("53300", "57P01", "08001", "08006", "57014"))  # ends of a watch after which its token is still good


@dataclass(frozen=True)
class Event:
    """A change. op: "put", "delete" or "expire"; item: the key as a scan would tell it, for a put; token: all up to here was told."""

    op: str
    key: "Key"
    version: int
    item: Optional["Item"]
    token: str


class Watch:
    """An iterator over Events, which does not end by itself. It begins when it is made: what is written from then on is told,
    each change once. It goes on by itself, from where it was, at the next server when one is lost. close() ends it, also from another
    thread. token: from where another watch would go on. Raises OperationalError: with sqlstate 55000 when the server does not keep
    changes from there on any more (watch from now on, and scan)."""

    def __init__(self, transport: Transport, root: str, prefix: Optional[str], values: bool, token: Optional[str]) -> None:
        self._transport, self._path = transport, f"{root}/watch"
        self._query = {"prefix": prefix, "encoding": "hex", "values": "base64" if values else None}
        self.token = token
        self._lock = threading.Lock()
        self._exchange: Optional[Exchange] = None
        self._closed = False
        self._over = False      # it has failed for good
        self._lines: Iterator[bytes] = iter(())
        self._opened_at = 0.0   # 0: it is to be opened again
        self._deadline = 0.0    # until then it is tried again; 0: all is well
        self._open()

    def __iter__(self) -> "Watch":
        return self

    def __next__(self) -> Event:
        from .kv import item_of, key_of
        while not self._closed and not self._over:
            try:
                if not self._opened_at:
                    self._open()
                kind, told = self._event()
                self._deadline = 0.0
                if kind == "error":
                    raise from_document(told.get("error", told))
                if kind in ("put", "delete", "expire"):
                    return Event(kind, key_of(told["key"]), told["version"], item_of(told) if kind == "put" else None, self.token or "")
            except Error as error:
                if not self._again(error):
                    raise
            except BaseException:  # an answer of another form, or Ctrl-C: the lines that were read are gone, its token is not
                self._opened_at = 0.0
                self._leave()
                raise
        self._leave()
        raise StopIteration

    def close(self) -> None:
        """End it: who waits for an event gets the end of the iteration."""
        with self._lock:
            self._closed = True
            if self._exchange is not None:
                self._exchange.cancel()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self._leave()
        except Exception:  # the interpreter may be going down
            pass

    def _again(self, error: Error) -> bool:
        """After an error: whether to go on, with the next thing that it says or by opening it again."""
        if self._closed:
            return True
        now = time.monotonic()
        if self._opened_at and now - self._opened_at > RETRY_S:  # it was well for long, without a change
            self._deadline = 0.0
        self._opened_at = 0.0
        self._deadline = self._deadline or now + RETRY_S
        self._leave()
        if error.sqlstate not in GOES_ON or now > self._deadline:
            self._over = True
            return False
        time.sleep(RETRY_PAUSE_S)
        return True

    def _leave(self) -> None:
        exchange = getattr(self, "_exchange", None)
        if exchange is not None:
            exchange.close()

    def _open(self) -> None:
        """Until the server says that it has begun."""
        headers = {"Last-Event-ID": self.token} if self.token else {}
        request = Request("GET", self._path, dict(self._query), headers=headers, repeatable=True)
        exchange = self._transport.send(request, silence=ALIVE_S)
        if exchange.status != 200:
            raise exchange.error()
        with self._lock:
            self._exchange = exchange
            if self._closed:
                exchange.cancel()
        self._lines = _lines(exchange)
        try:
            self._event()
        except QueryCanceled:
            if not self._closed:
                raise
        self._opened_at = time.monotonic()

    def _event(self) -> tuple[str, dict[str, Any]]:
        """The next one that says something, and its name."""
        kind, data = "", []
        token = self.token  # of what was told as a whole
        for line in self._lines:
            name, _, value = line.decode().partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                token = value
            elif not line and data:
                self.token = token
                return kind, json.loads("\n".join(data))
        raise OperationalError("the watch has ended", sqlstate="08006")


def _lines(exchange: Exchange) -> Iterator[bytes]:
    rest = b""
    while True:
        data = exchange.read1()
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
