"""Answers that are lost on the way: what is sent again is done once, what cannot be is told."""
import socket
import threading

import pytest

import merganser


class Wire:
    """A TCP relay to the server. lose(): the next bytes of the server are thrown away, with their connection."""

    def __init__(self, port):
        self.port, self.lost, self._armed = port, 0, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self):
        self._armed = True

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, target, answers):
        try:
            while data := source.recv(65536):
                if answers and self._armed:
                    self._armed, self.lost = False, self.lost + 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def wire(cluster):
    one = Wire(cluster.port)
    yield one
    one.close()


@pytest.fixture
def far(connect, wire):
    """A connection over the wire; the table lost_rows is empty."""
    con = connect(url=f"https://localhost:{wire.address}")
    con.execute("DROP TABLE IF EXISTS lost_rows")
    con.execute("CREATE TABLE lost_rows (a INTEGER)")
    return con


def rows(con):
    return con.execute("SELECT a FROM lost_rows ORDER BY a").fetchall()


def test_a_read_is_sent_again(far, wire):
    wire.lose()
    assert far.execute("SELECT 5").fetchall() == [(5,)] and wire.lost == 1


def test_writes_are_done_once(far, wire):
    wire.lose()
    assert far.execute("INSERT INTO lost_rows VALUES (1)").rowcount == 1 and wire.lost == 1
    wire.lose()
    assert far.executemany("INSERT INTO lost_rows VALUES (?)", [[2], [3]]).rowcount == 2 and wire.lost == 2
    wire.lose()
    assert far.executemany("UPDATE lost_rows SET a = a * 10 WHERE a = ?", [[2], [3]]).rowcount == 2 and wire.lost == 3
    assert rows(far) == [(1,), (20,), (30,)]


def test_a_commit_is_done_once(far, wire):
    far.begin()
    far.execute("INSERT INTO lost_rows VALUES (1)")
    wire.lose()
    far.commit()
    assert wire.lost == 1 and rows(far) == [(1,)]


def test_a_statement_of_a_transaction_is_not_sent_again(far, wire):
    far.begin()
    wire.lose()
    with pytest.raises(merganser.OperationalError) as error:
        far.execute("INSERT INTO lost_rows VALUES (1)")
    assert error.value.sqlstate == "08006" and not isinstance(error.value, merganser.UnknownOutcome)
    far.rollback()
    assert rows(far) == []


def test_a_write_without_a_key_is_unknown(connect, far, wire):
    con = connect(url=f"https://localhost:{wire.address}", idempotent=False)
    wire.lose()
    with pytest.raises(merganser.UnknownOutcome) as error:
        con.execute("INSERT INTO lost_rows VALUES (1)")
    assert error.value.idempotency_key is None and len(rows(far)) <= 1


def test_keys_are_written_once(far, wire):
    kv = far.kv("lost")
    wire.lose()
    assert kv.incr("n") == 1
    wire.lose()
    version = kv.put("a", "1", if_absent=True)
    wire.lose()
    assert kv.get("a").version == version
    wire.lose()
    assert kv.delete("a", if_version=version) is True
    wire.lose()
    assert [item.key for item in kv.scan()] == ["n"]
    assert wire.lost == 5 and kv.get("n") == b"1"


def test_a_watch_goes_on(far, wire):
    kv = far.kv("lost-watch")
    with kv.watch() as watch:
        first = kv.put("a", "1")
        assert next(watch).version == first
        wire.lose()
        with pytest.raises(merganser.ConditionFailed):
            kv.put("a", "2", if_absent=True)
        wire.lose()
        versions = [kv.put("a", str(number)) for number in range(3)]
        assert [next(watch).version for _ in range(3)] == versions
    assert wire.lost == 2
