"""One request on one connection, and its answer, whose body is read as it comes."""
from __future__ import annotations

import http.client
import io
import select
import socket
import threading
from typing import Callable, Optional

from .errors import Error, OperationalError, QueryCanceled, from_answer
from .options import Options, Server

KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))  # a dead host is noticed after 35 s
READ_SIZE = 256 << 10
SMALL_BODY = 1 << 20


class NotSent(Exception):
    """No connection, so nothing has happened."""


class Lost(Exception):
    """The connection broke after the request was on its way."""


def open_connection(server: Server, options: Options) -> http.client.HTTPConnection:
    """Connected; raises NotSent."""
    if server.tls:
        made: http.client.HTTPConnection = http.client.HTTPSConnection(
            server.host, server.port, timeout=options.connect_timeout, context=options.tls)
    else:
        made = http.client.HTTPConnection(server.host, server.port, timeout=options.connect_timeout)
    try:
        made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                made.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError as error:
        made.close()
        raise NotSent(f"cannot connect to {server}: {error}") from error
    return made


def is_fresh(connection: http.client.HTTPConnection) -> bool:
    """Whether a connection that waited is still open: one that has something to read was closed by the server."""
    if connection.sock is None:
        return False
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            return not poll.poll(0)
        return not select.select([connection.sock], [], [], 0)[0]
    except (OSError, ValueError):
        return False


class Exchange:
    """A request under way. Reading is for one thread; cancel() may be called by any other."""

    def __init__(self, connection: http.client.HTTPConnection, server: Server,
                 done: Callable[["Exchange", bool], None]) -> None:
        """done: is called once, with whether the connection can serve another request."""
        self.server = server
        self.sent: dict[str, str] = {}  # headers of the request
        self.cancelled = False
        self.after_loss = False  # an earlier attempt at the same request was lost
        self._connection, self._done = connection, done
        self._response: Optional[http.client.HTTPResponse] = None
        self._lock = threading.Lock()
        self._over = False
        self._length: Optional[int] = None
        self._left = 0     # of a body whose length is known
        self._small = b""  # a small one, which is there with the head: when it is cut nothing was heard

    def send(self, method: str, path: str, body: Optional[bytes], headers: dict[str, str], timeout: Optional[float]) -> None:
        """Until the head of the answer is there; raises Lost, or QueryCanceled."""
        self.sent = headers
        try:
            self._connection.sock.settimeout(timeout)
            try:
                self._connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                if not body:
                    raise
                # a server that refuses a body may have answered before it has all of it
            self._response = self._connection.getresponse()
            self._length = self._response.length
            self._left = self._length or 0
            if self._length is not None and self._length <= SMALL_BODY:  # also of none: http.client wants it read
                self._small, self._left = self._response.read(), 0
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            self.close()
            if self.cancelled:
                raise self._cancel_error() from None
            raise Lost(f"the connection to {self.server} was lost: {error or type(error).__name__}") from error
        except BaseException:  # Ctrl-C: the server ends a statement whose client has gone
            self.close()
            raise

    @property
    def response(self) -> http.client.HTTPResponse:
        assert self._response is not None
        return self._response

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> Optional[str]:
        return self.response.getheader(name)

    @property
    def length(self) -> Optional[int]:
        """Of the body, None when it is sent while it is made."""
        return self._length

    def read1(self, size: int = READ_SIZE) -> bytes:
        """What has come, as much of it as asked for, or a small body; b"" at the end. Raises OperationalError when the body
        is cut, QueryCanceled after cancel()."""
        if self._over:
            if self.cancelled:
                raise self._cancel_error()
            return b""
        try:
            data = self._receive(size)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            self.close()
            raise self._cut(error) from error
        except BaseException:
            self.close()
            raise
        if not data:
            self._finish(not self.response.will_close)
        return data

    def _receive(self, size: int) -> bytes:
        if self._small:
            data, self._small = self._small, b""
            return data
        if self._length is None:
            return self.response.read1(size)
        data = self.response.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise http.client.IncompleteRead(b"", self._left)
        self._left -= len(data)
        return data

    def read(self) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        while True:
            data = self.read1()
            if not data:
                return b"".join(parts)
            parts.append(data)

    def error(self) -> Error:
        """The body as an exception."""
        return from_answer(self.status, self.read())

    def file(self) -> io.BufferedReader:
        """The body as a file."""
        return io.BufferedReader(_Body(self), READ_SIZE)

    def close(self) -> None:
        """Ends it; when the answer is not complete, the server stops making it."""
        self._finish(False)

    def cancel(self) -> None:
        """From another thread: whoever reads gets QueryCanceled."""
        with self._lock:
            if self._over:
                return
            self.cancelled = True
            sock = self._connection.sock
        if sock is not None:
            try:  # not SSLSocket's own: it takes the TLS state away from under the reader
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass

    def _finish(self, reusable: bool) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            reusable = reusable and not self.cancelled
        if not reusable:
            self._connection.close()
            if self._response is not None:
                self._response.close()
        self._done(self, reusable)

    def _cut(self, error: Exception) -> Error:
        if self.cancelled:
            return self._cancel_error()
        if isinstance(error, TimeoutError):
            return QueryCanceled(f"{self.server} sent nothing more within the time limit", sqlstate="57014", retry="maybe")
        return OperationalError(f"the answer of {self.server} was cut: the statement failed while its rows were sent, or the "
                                "connection was lost", sqlstate="08006", detail=str(error), retry="maybe",
                                hint="cluster.query_history has the server's reason when the statement failed.")

    @staticmethod
    def _cancel_error() -> QueryCanceled:
        return QueryCanceled("the statement was cancelled", sqlstate="57014")


class _Body(io.RawIOBase):
    """An exchange's body for who wants a file."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._rest = exchange, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = self._exchange.read1(len(buffer))
        data, self._rest = self._rest[:len(buffer)], self._rest[len(buffer):]
        buffer[:len(data)] = data
        return len(data)
