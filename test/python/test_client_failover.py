"""Three servers, one of which is killed, under the Python package."""
import threading

import pytest

import merganser
from servers_kit import ready, until


def connection(servers, first, **options):
    """To all servers, that one first."""
    names = [first, *servers.others(first)]
    return merganser.connect(",".join(f"https://localhost:{servers.ports[name]}" for name in names), username="scott", password="tiger",
                             tls_roots=servers.cluster.ca, timeout=60, **options)


def back(servers, name):
    servers.start(name)
    until("three servers", lambda: ready(servers) == 3, log=servers.logs)


class Worker(threading.Thread):
    """Does one thing again and again; done has what it gave, unknown the calls whose outcome nobody knows."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.done, self.unknown, self.error, self.over = work, [], [], None, False
        self.start()

    def run(self):
        number = 0
        while not self.over and self.error is None:
            number += 1
            try:
                self.done.append(self.work(number))
            except merganser.UnknownOutcome:
                self.unknown.append(number)
            except BaseException as error:
                self.error = error

    def progress(self, more):
        target = len(self.done) + more
        until(f"{more} more", lambda: len(self.done) >= target or self.error)
        assert self.error is None, self.error

    def stop(self):
        self.over = True
        self.join(90)
        assert not self.is_alive() and self.error is None, self.error


def test_the_next_server_is_asked_when_one_is_down(three):
    names = ["https://localhost:1", *(f"https://localhost:{port}" for port in three.ports.values())]
    con = merganser.connect(",".join(names), username="scott", password="tiger", tls_roots=three.cluster.ca)
    assert con.execute("SELECT 1").fetchall() == [(1,)]
    con.close()


@pytest.mark.parametrize("asked", ["coordinator", "other"])
def test_each_write_is_done_once_when_a_server_is_killed(three, asked):
    """Whether the server that is asked dies, or the one that coordinates."""
    victim = three.coordinator()
    con = connection(three, victim if asked == "coordinator" else three.others(victim)[0])
    con.execute(f"CREATE TABLE once_{asked} (a INTEGER)")
    counter = con.kv(f"once-{asked}")
    rows = Worker(lambda number: con.execute(f"INSERT INTO once_{asked} VALUES (?)", [number]).rowcount and number)
    counts = Worker(lambda number: counter.incr("n"))
    reads = Worker(lambda number: con.execute(f"SELECT count(*) FROM once_{asked}").fetchone()[0])
    for worker in (rows, counts, reads):
        worker.progress(5)
    three.kill(victim)
    for worker in (rows, counts, reads):
        worker.progress(5)
        worker.stop()
    stored = [row[0] for row in con.execute(f"SELECT a FROM once_{asked} ORDER BY a").fetchall()]
    assert len(stored) == len(set(stored)) and set(rows.done) <= set(stored) <= set(rows.done) | set(rows.unknown)
    assert counts.done == sorted(set(counts.done))
    assert len(counts.done) <= int(counter.get("n")) <= len(counts.done) + len(counts.unknown)
    assert reads.done == sorted(reads.done)
    con.close()
    back(three, victim)


def test_a_transaction_whose_server_is_killed_is_nothing(three):
    three.execute("CREATE TABLE lost (a INTEGER)")
    victim = three.others(three.coordinator())[0]
    con = connection(three, victim)
    con.begin()
    con.execute("INSERT INTO lost VALUES (1)")
    three.kill(victim)
    with pytest.raises(merganser.OperationalError):
        con.execute("INSERT INTO lost VALUES (2)")
    assert con.in_transaction
    con.rollback()
    assert con.execute("SELECT count(*) FROM lost").fetchone() == (0,)
    with con.transaction():
        con.execute("INSERT INTO lost VALUES (3)")
    with connection(three, three.others(victim)[0]) as other:
        assert other.execute("SELECT a FROM lost").fetchall() == [(3,)]
    back(three, victim)


def test_a_watch_goes_on_at_another_server(three):
    victim = three.others(three.coordinator())[0]
    con, writer = connection(three, victim), connection(three, three.others(victim)[0])
    watch = con.kv("seen").watch(values=True)
    told = []
    reader = threading.Thread(target=lambda: told.extend(int(event.item.value) for event in watch), daemon=True)
    reader.start()
    for number in range(30):
        if number == 10:
            until("the first ones", lambda: len(told) >= 5)
            three.kill(victim)
        writer.kv("seen").put("a", str(number))
    until("all of them", lambda: told and told[-1] == 29)
    assert told == list(range(30))
    watch.close()
    reader.join(20)
    assert not reader.is_alive()
    con.close()
    writer.close()
    back(three, victim)


def test_what_a_session_wrote_it_reads_everywhere(three):
    """With the consistency that asks nobody, at another server each time."""
    three.execute("CREATE TABLE own (a INTEGER)")
    con = connection(three, "server-1")
    con.execute("SET read_consistency = 'any'")
    for number in range(1, 10):
        con.execute("INSERT INTO own VALUES (?)", [number])
        con._transport._move_on(con._transport._current())
        assert con.execute("SELECT count(*) FROM own").fetchone() == (number,)
    con.close()
