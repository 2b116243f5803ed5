"""Keys and values of the Python package."""
import datetime
import os
import threading
import time

import pytest

import merganser


@pytest.fixture
def kv(con, request):
    return con.kv(request.node.name[:64])


def test_values_come_back(kv):
    version = kv.put("a", "hé")
    got = kv.get("a")
    assert got == "hé".encode() and got.text() == "hé" and got.version == version and got.content_type.startswith("text/plain")
    assert got.expires is None and "a" in kv and "b" not in kv
    assert kv.get("b") is None and kv.get("b", 5) == 5
    assert kv.put("a", b"\x00\xff", content_type="image/png", encoding="br") > version
    got = kv.get("a", consistency="any")
    assert got == b"\x00\xff" and (got.content_type, got.encoding) == ("image/png", "br")
    assert kv.put("empty", b"") and kv.get("empty") == b""
    assert kv.delete("a") is True and kv.delete("a") is False


def test_keys_are_any_bytes(kv):
    keys = [b"\x00", b"\xff\xfe", "watch", "a/b?c=d&e#f%20", "ü", "k" * 5000, b"x\n"]
    for number, key in enumerate(keys):
        kv.put(key, str(number))
    for number, key in enumerate(keys):
        assert kv.get(key) == str(number).encode()
    told = [item.key for item in kv.scan()]
    assert sorted(key.encode() if isinstance(key, str) else key for key in told) == sorted(
        key.encode() if isinstance(key, str) else key for key in keys)
    assert b"\xff\xfe" in told and "ü" in told
    with pytest.raises(merganser.InterfaceError):
        kv.get("")


def test_a_large_value(kv):
    value = os.urandom(10 << 20)
    version = kv.put("film", value, content_type="video/mp4")
    got = kv.get("film")
    assert got == value and got.version == version and got.content_type == "video/mp4"
    item, = kv.scan(values=True)
    assert item.size == len(value) and item.value is None


def test_a_value_that_is_too_large(kv, con):
    with pytest.raises(merganser.DataError):
        kv.put("film", bytes((64 << 20) + 1))
    begin = time.monotonic()
    with pytest.raises(merganser.DatabaseError) as error:
        kv.batch().put("film", os.urandom(40 << 20)).run()  # the server refuses while it is being sent
    assert error.value.status == 413 and time.monotonic() - begin < 10
    with pytest.raises(merganser.DatabaseError) as error:
        con.execute("SELECT length(?)", ["x" * (20 << 20)])
    assert error.value.status == 413 and kv.get("film") is None


def test_conditions(kv):
    first = kv.put("a", "1", if_absent=True)
    for condition in ({"if_absent": True}, {"if_version": first + 1}):
        with pytest.raises(merganser.ConditionFailed) as error:
            kv.put("a", "2", **condition)
        assert isinstance(error.value, merganser.IntegrityError) and error.value.status == 412
    with pytest.raises(merganser.ConditionFailed):
        kv.put("none", "2", if_present=True)
    with pytest.raises(merganser.ConditionFailed):
        kv.delete("a", if_version=first + 1)
    with pytest.raises(merganser.InterfaceError):
        kv.put("a", "2", if_version=first, if_absent=True)
    second = kv.put("a", "2", if_version=first)
    assert kv.get("a") == b"2" and kv.delete("a", if_version=second)


def test_expiry(kv):
    kv.put("a", "1", ttl=100)
    left = kv.get("a").expires - datetime.datetime.now(datetime.timezone.utc)
    assert 90 < left.total_seconds() <= 100
    kv.put("b", "1", ttl=0.3)
    deadline = time.monotonic() + 20
    while kv.get("b") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_numbers_and_appending(kv):
    assert (kv.incr("n"), kv.incr("n", 5), kv.incr("n", -10)) == (1, 6, -4) and kv.get("n") == b"-4"
    kv.put("t", "x")
    with pytest.raises(merganser.ConditionFailed):
        kv.incr("t")
    kv.append("t", "y")
    assert kv.get("t") == b"xy"


def test_scan_pages(kv):
    with kv.batch() as batch:
        for number in range(25):
            batch.put(f"k{number:02}", str(number), content_type="text/x")
    items = list(kv.scan(page=7, values=True))
    assert [item.key for item in items] == [f"k{number:02}" for number in range(25)]
    assert items[3].value == b"3" and items[3].size == 1 and items[3].content_type == "text/x" and items[3].version > 0
    assert [item.key for item in kv.scan("k1", page=3)] == [f"k1{number}" for number in range(10)]
    assert [item.key for item in kv.scan(start="k05", end="k08")] == ["k05", "k06", "k07"]
    assert len(list(kv.scan(limit=11, page=4))) == 11 and next(iter(kv.scan())).value is None
    assert not list(kv.scan("none"))


def test_batch(kv):
    version = kv.put("ann", "100")
    with kv.batch() as batch:
        batch.check("ann", if_version=version).add("ann", -10).add("ben", 10).put("last", b"\xff").get("last").get("none").delete("none")
    found = batch.results
    assert [found[1].number, found[2].number, found[4].value, found[5].value, found[6].deleted] == [90, 10, b"\xff", None, False]
    with pytest.raises(merganser.ConditionFailed):
        kv.batch().check("ann", if_version=version).put("ann", "0").put("x", "1").run()
    assert kv.get("ann") == b"90" and "x" not in kv
    with pytest.raises(ZeroDivisionError):
        with kv.batch() as batch:
            batch.put("x", "1")
            1 / 0
    assert "x" not in kv and kv.batch().run() == []


def test_watch(kv):
    with kv.watch("w", values=True) as watch:
        kv.put("w1", "1", ttl=100)
        kv.put("other", "2")
        kv.delete("w1")
        kv.put(b"w\xff", b"\xff")
        events = [next(watch) for _ in range(3)]
        assert {(event.op, event.key) for event in events} == {("put", "w1"), ("delete", "w1"), ("put", b"w\xff")}
        put = next(event for event in events if event.key == "w1" and event.op == "put")
        assert put.item.value == b"1" and put.item.expires and put.version == put.item.version
        token = watch.token
    kv.put("w2", "3")
    again = kv.watch("w", token=token)
    assert next(again).key == "w2"
    threading.Timer(0.3, again.close).start()
    assert list(again) == []
    with pytest.raises(merganser.DatabaseError):
        kv.watch(token="nonsense")


def test_namespaces_are_apart(con):
    one, other = con.kv("py-one"), con.kv("py.other")
    one.put("a", "1")
    assert other.get("a") is None and con.execute("SELECT value FROM kv('py-one')").fetchall() == [("1",)]
    assert con.execute("INSERT INTO kv.\"py.other\" (key, value) VALUES ('s', 't')").rowcount == 1  # takes no Idempotency-Key
    assert con.executemany("INSERT INTO kv.\"py.other\" (key, value) VALUES (?, ?)", [("m1", "1"), ("m2", "2")]).rowcount == 2
    assert other.get("s") == b"t" and other.get("m2") == b"2"
    with pytest.raises(merganser.DatabaseError):
        con.kv("no/namespace").put("a", "1")
