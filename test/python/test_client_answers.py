"""Answers that no server of ours gives on demand, from one that says what a test wants."""
import http.client
import io
import socket
import threading
import time

import pytest

import merganser
from merganser.connection import Connection
from merganser.exchange import Exchange
from merganser.kv import Namespace
from merganser.options import Options, Server, parse_servers
from merganser.transport import Request, Transport
from merganser.watch import Watch

KEY = {"Idempotency-Key": "k"}
EVENT = "event: put\nid: {0}\ndata: {{\"key\": \"61\", \"version\": {0}}}\n\n"
HELLO = "event: begin\nid: 0\ndata: {}\n\n"


class Scripted:
    """Answers each request by the next text of the script, None: breaks the connection; heads: of the requests."""

    def __init__(self, *script):
        self.script, self.heads, self.connections = list(script), [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.server = Server("127.0.0.1", self._listener.getsockname()[1], False)
        threading.Thread(target=self._accept, daemon=True).start()

    def options(self, timeout=3.0):
        return Options((self.server,), "Basic c2VjcmV0", None, 2.0, timeout)

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, client.makefile("rb") as file:
            while True:
                head, length = [], 0
                while (line := file.readline().decode().rstrip()):
                    head.append(line)
                    length = int(line.split(":")[1]) if line.lower().startswith("content-length:") else length
                if not head:
                    return
                file.read(length)
                self.heads.append(head)
                text = self.script.pop(0) if self.script else None
                if text is None:
                    return
                client.sendall(text.encode())
                if "Connection: close" in text:
                    return


def answer(status, body="", more=""):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}"


def refusal(retry="safe"):
    return answer(503, f'{{"error": {{"message": "no", "sqlstate": "57P03", "retry": "{retry}"}}}}', "Retry-After: 0\r\n")


def stream(*parts):
    """Events, and then the connection breaks."""
    return "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(parts)


@pytest.fixture
def scripted():
    made = []

    def make(*script):
        made.append(Scripted(*script))
        return made[-1]
    yield make
    for one in made:
        one.close()


def in_transaction(far):
    con = Connection(far.options())
    con.begin()
    return con


BEGUN = answer(200, '{"result": {"id": "t1"}}')


def test_an_answer_without_a_body_leaves_its_connection(scripted):
    far = scripted(answer(204), "HTTP/1.1 200 X\r\nContent-Length: 77\r\n\r\n", answer(200, '{"version": 5}'))
    kv = Namespace(Transport(far.options()), "n")
    assert kv.delete("a") is True and "a" in kv and kv.put("a", "b") == 5
    assert far.connections == 1 and len(far.heads) == 3


def test_a_refusal_in_a_transaction_is_told_at_once(scripted):
    far = scripted(BEGUN, refusal(), answer(400))
    con = in_transaction(far)
    with pytest.raises(merganser.OperationalError) as error:
        con.execute("INSERT INTO t VALUES (1)")
    assert error.value.sqlstate == "57P03" and len(far.heads) == 2


def test_a_refused_commit_is_told_and_the_transaction_ended(scripted):
    far = scripted(BEGUN, refusal(), answer(200, "{}"))
    con = in_transaction(far)
    with pytest.raises(merganser.OperationalError) as error:
        con.commit()
    assert error.value.sqlstate == "57P03" and far.heads[2][0].startswith("POST /db/tx/t1/rollback") and len(far.heads) == 3


def test_what_may_have_been_done_is_not_repeated(scripted):
    """Unless a key, or what it asks, makes it harmless."""
    far = scripted(refusal("maybe"), answer(200, "{}"), refusal("maybe"), answer(200, "{}"))
    with pytest.raises(merganser.UnknownOutcome):
        Transport(far.options()).send(Request("POST", "/"))
    assert len(far.heads) == 1
    far.script.pop(0)
    assert Transport(far.options()).send(Request("POST", "/", headers=KEY, repeatable=True)).status == 200
    assert len(far.heads) == 3


def test_a_lost_commit_that_is_not_known_any_more_is_unknown(scripted):
    far = scripted(BEGUN, None, refusal(), answer(404, '{"error": {"message": "no transaction", "sqlstate": "25000"}}'))
    con = in_transaction(far)
    with pytest.raises(merganser.UnknownOutcome) as error:
        con.commit()
    assert error.value.idempotency_key and len(far.heads) == 4


@pytest.mark.parametrize("value", ["a\nb", "текст", "a\0"])
def test_headers_that_are_none_are_refused_before_anything_is_sent(scripted, value):
    far = scripted()
    begin = time.monotonic()
    with pytest.raises(merganser.InterfaceError):
        Namespace(Transport(far.options()), "n").put("a", b"b", content_type=value)
    with pytest.raises(merganser.InterfaceError):
        Connection(far.options()).execute("INSERT INTO t VALUES (1)", idempotency_key=value)
    assert time.monotonic() - begin < 2 and far.connections == 0


def test_secrets_are_not_shown(scripted):
    assert "c2VjcmV0" not in repr(scripted().options())
    for url in ("https://u:geheim@h:x", "ftp://u:geheim@h", "https://u:geheim/x@h", "https://u:a,geheim@h", "https://u:geheim,x@h",
                "u:geheim@h/path", "https://u:geheim@[x", "https://u:geheim@x@h:y"):
        with pytest.raises(merganser.InterfaceError) as error:
            parse_servers(url)
        assert "geheim" not in str(error.value), url


def test_a_watch_that_is_cut_in_the_middle_of_an_event_tells_it(scripted):
    far = scripted(stream(HELLO, EVENT.format(1), "event: put\nid: 2\n"), None, stream(HELLO.replace("0", "1"), EVENT.format(2)))
    watch = Watch(Transport(far.options()), "/kv/n", None, False, None)
    assert [next(watch).version, next(watch).version] == [1, 2]
    assert "Last-Event-ID: 1" in far.heads[-1]


def test_a_watch_goes_on_when_its_server_is_away(scripted):
    far = scripted(stream(HELLO), stream(HELLO, EVENT.format(1)))
    transport = Transport(far.options())
    watch = Watch(transport, "/kv/n", None, False, None)
    send, failures = transport.send, [1, 2, 3]

    def away(*args, **kwargs):
        if failures:
            failures.pop()
            raise merganser.OperationalError("no server", sqlstate="08001")
        return send(*args, **kwargs)
    transport.send = away
    assert next(watch).version == 1 and not failures


def test_a_watch_that_is_dropped_ends(scripted):
    far = scripted("HTTP/1.1 200 X\r\n\r\n" + HELLO)
    transport = Transport(far.options())
    watch = Watch(transport, "/kv/n", None, False, None)
    assert len(transport._active) == 1
    del watch
    assert not transport._active


def test_an_arrow_answer_that_is_cut_while_it_is_buffered_gives_no_rows(scripted):
    pa = pytest.importorskip("pyarrow")
    from merganser.arrow_results import ArrowRows
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([pa.array([1, 2])], names=["a"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    whole = sink.getvalue().to_pybytes()
    far = scripted()
    exchange = Exchange(http.client.HTTPConnection("127.0.0.1"), far.server, lambda *_: None)

    class Cut(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            if not data and size:
                raise merganser.OperationalError("cut", sqlstate="08006")
            return data
    exchange.file = lambda: Cut(whole[:-60])
    rows = ArrowRows(exchange, lambda: None)
    with pytest.raises(merganser.OperationalError):
        rows.buffer()
    rows.buffer()
    with pytest.raises(merganser.InterfaceError):
        rows.take(None)
