"""Transactions of the Python package."""
import pytest

import merganser

COUNT = "SELECT count(*), coalesce(sum(a), 0)::INTEGER FROM py_tx"


@pytest.fixture
def other(connect):
    """A second client, who sees what is committed; the table is empty."""
    one = connect()
    one.execute("DROP TABLE IF EXISTS py_tx")
    one.execute("CREATE TABLE py_tx (a INTEGER PRIMARY KEY, b VARCHAR) PARTITIONED BY (a)")
    return one


def seen(con):
    return con.execute(COUNT).fetchone()


def test_begin_and_commit_by_methods_and_by_statements(con, other):
    con.begin()
    con.execute("INSERT INTO py_tx VALUES (1, 'x')")
    assert con.in_transaction and seen(con) == (1, 1) and seen(other) == (0, 0)
    con.commit()
    assert not con.in_transaction and seen(other) == (1, 1)
    con.execute("BEGIN TRANSACTION")
    con.execute("UPDATE py_tx SET b = 'y'")
    con.execute("ROLLBACK")
    assert other.execute("SELECT b FROM py_tx").fetchall() == [("x",)]
    con.execute("START TRANSACTION READ ONLY")
    with pytest.raises(merganser.DatabaseError):
        con.execute("INSERT INTO py_tx VALUES (2, 'x')")
    con.execute("ABORT")
    con.commit()
    con.rollback()  # there is none: nothing
    with con.transaction():
        con.execute("INSERT INTO py_tx VALUES (7, 'x')")
        with pytest.raises(merganser.ProgrammingError):
            con.begin()
    assert seen(other) == (2, 8)
    with pytest.raises(ZeroDivisionError):
        with con.transaction():
            con.execute("DELETE FROM py_tx")
            1 / 0
    assert seen(con) == (2, 8)


def test_without_autocommit_a_statement_begins_one(connect, other):
    con = connect(autocommit=False)
    con.execute("INSERT INTO py_tx VALUES (1, 'x')")
    assert con.in_transaction and seen(other) == (0, 0)
    with pytest.raises(merganser.ProgrammingError):
        con.autocommit = True
    con.commit()
    assert seen(other) == (1, 1)
    con.executemany("INSERT INTO py_tx VALUES (?, ?)", [(2, "x"), (3, "y")])
    assert seen(con) == (3, 6) and seen(other) == (1, 1)
    con.close()
    assert seen(other) == (1, 1)


def test_a_block_commits_or_rolls_back(connect, other):
    with connect(autocommit=False) as con:
        con.execute("INSERT INTO py_tx VALUES (1, 'x')")
    assert seen(other) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        with connect(autocommit=False) as con:
            con.execute("INSERT INTO py_tx VALUES (2, 'x')")
            1 / 0
    assert seen(other) == (1, 1)
    with pytest.raises(merganser.InterfaceError):
        con.execute("SELECT 1")


def test_the_first_who_commits_wins(con, other):
    other.execute("INSERT INTO py_tx VALUES (1, 'x')")
    con.begin()
    con.execute("UPDATE py_tx SET b = 'mine'")
    other.execute("UPDATE py_tx SET b = 'theirs'")
    with pytest.raises(merganser.SerializationFailure) as error:
        con.commit()
    assert error.value.sqlstate == "40001" and not con.in_transaction
    assert con.execute("SELECT b FROM py_tx").fetchall() == [("theirs",)]


def test_a_failed_one_can_only_be_rolled_back(con, other):
    con.begin()
    con.execute("INSERT INTO py_tx VALUES (1, 'x')")
    with pytest.raises(merganser.DataError):
        con.execute("INSERT INTO py_tx SELECT CAST(b AS INTEGER), 'y' FROM py_tx")
    with pytest.raises(merganser.InternalError) as error:
        con.execute(COUNT)
    assert error.value.sqlstate == "25P02"
    with pytest.raises(merganser.DatabaseError):
        con.commit()
    assert not con.in_transaction and seen(con) == (0, 0)


def test_results_may_be_open_side_by_side(connect, other):
    """A handle takes one request at a time; an answer that is still coming is taken into memory."""
    for arrow in (True, False):
        con = connect(arrow=arrow)
        con.begin()
        first = con.execute("SELECT range AS a, uuid() AS u FROM range(100000)")
        assert first.fetchone()[0] == 0
        second = con.execute("SELECT range + 1 FROM range(100000)")
        con.execute("INSERT INTO py_tx VALUES (1, 'x')")
        assert len(first.fetchall()) == 99_999 and sum(row[0] for row in second) == 5_000_050_000
        assert first.description[1][1] == "UUID"
        con.rollback()


def test_an_answer_that_is_not_wanted_does_not_end_it(connect, other):
    for arrow in (True, False):
        con = connect(arrow=arrow)
        con.begin()
        cursor = con.execute("SELECT range AS a, uuid() AS u FROM range(200000)")
        assert cursor.fetchone()[0] == 0
        assert cursor.execute("INSERT INTO py_tx VALUES (1, 'x')").rowcount == 1
        assert con.sql("SELECT range, uuid() FROM range(200000)").fetchone()[0] == 0
        assert seen(con) == (1, 1)
        assert con.execute("SELECT range, uuid() FROM range(200000)").fetchone()[0] == 0  # the cursor is gone
        con.rollback()


def test_many_are_one_transaction(con, other):
    con.execute("INSERT INTO py_tx VALUES (700, 'there')")
    with pytest.raises(merganser.IntegrityError):
        con.executemany("INSERT INTO py_tx VALUES (?, ?)", [(i, "x") for i in range(1000)])
    assert seen(con) == (1, 700)
    rows = [(i, "x" * 100) for i in range(1000, 60_000)]
    assert con.executemany("INSERT INTO py_tx VALUES (?, ?)", rows).rowcount == 59_000  # more than one request
    assert seen(con)[0] == 59_001
    with pytest.raises(merganser.IntegrityError):
        con.executemany("INSERT INTO py_tx VALUES (?, ?)", [(i, "x" * 200) for i in range(100_000, 130_000)] + [(700, "")])
    assert seen(con)[0] == 59_001 and not con.in_transaction
    assert con.executemany("UPDATE py_tx SET b = ? WHERE a = ?", [("z", 700), ("z", -1), ("z", 1000)]).rowcount == 2


def test_a_key_makes_a_write_happen_once(con, other):
    con.execute("DROP TABLE IF EXISTS py_once")
    con.execute("CREATE TABLE py_once (a INTEGER)")
    for _ in range(3):
        assert con.execute("INSERT INTO py_once VALUES (1)", idempotency_key="py-once-1").rowcount == 1
    assert con.execute("SELECT count(*) FROM py_once").fetchone() == (1,)


def test_many_keep_the_types_of_each(con):
    con.execute("DROP TABLE IF EXISTS py_many")
    con.execute("CREATE TABLE py_many (a VARCHAR)")
    assert con.executemany("INSERT INTO py_many VALUES (?)", [[1], [2.5], [True], [None], ["x"]]).rowcount == 5
    assert con.execute("SELECT a FROM py_many ORDER BY a NULLS LAST").fetchall() == [("1",), ("2.5",), ("true",), ("x",), (None,)]
