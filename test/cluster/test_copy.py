"""COPY ... FROM STDIN: over HTTP, the shell and its channel, at any server; what is wrong stores nothing."""
import io
import json
import os
import signal
import struct
import subprocess
import time
import types
import urllib.parse

import pyarrow
import pyarrow.parquet

from conftest import PROGRAM, Cluster
from servers_kit import execute, query, until
from test_channel import Channel


def copy(servers, name, sql, data, **kwargs):
    return servers.request(name, "POST", "/db/execute?sql=" + urllib.parse.quote(sql), data, **kwargs)


def copied(servers, name, sql, data):
    answer = copy(servers, name, sql, data)
    assert answer.status == 200, (name, sql, answer.status, answer.body)
    return answer.json()["result"]["rows_affected"]


def failed(servers, name, sql, data, *statuses):
    answer = copy(servers, name, sql, data)
    assert answer.status in statuses, (answer.status, answer.body)
    return answer.json()["error"]


def parquet(rows):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), out)
    return out.getvalue()


def arrow(rows):
    table, out = pyarrow.table(rows), io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


def url(servers, name):
    return f"https://localhost:{servers.ports[name]}"


def shell(servers, name, *args, stdin=None, cwd=None):
    command = [PROGRAM, "sql", url(servers, name), "--username", "scott", "--tls-roots", servers.cluster.ca, *args]
    return subprocess.run(command, input=stdin,
                          capture_output=True, text=True, timeout=120, cwd=cwd, env={**os.environ, "MERGANSER_PASSWORD": "tiger"})


def test_every_format_at_every_server(three):
    execute(three, three.names[0], "CREATE TABLE f (k INTEGER, v VARCHAR, d DATE, n INTEGER DEFAULT 7) PARTITIONED BY (k)")
    rows = {"k": [1, 2, None], "v": ["a", None, "ü,\"x"], "d": ["2020-01-01", "2021-02-03", None], "n": [1, 2, 3]}
    want = [[1, "a", "2020-01-01", 1], [2, None, "2021-02-03", 2], [None, "ü,\"x", None, 3]]
    typed = {"k": pyarrow.array(rows["k"], pyarrow.int64()), "v": rows["v"], "d": rows["d"], "n": rows["n"]}
    lines = [dict(zip(rows, one)) for one in zip(*rows.values())]
    sources = [
        ("", "k,v,d,n\n1,a,2020-01-01,1\n2,,2021-02-03,2\n,\"ü,\"\"x\",,3\n".encode()),
        ("(FORMAT csv, HEADER false, DELIMITER '|', NULL 'NA')",
         "1|a|2020-01-01|1\n2|NA|2021-02-03|2\nNA|\"ü,\"\"x\"|NA|3\n".encode()),
        ("(FORMAT json)", "\n".join(json.dumps(line) for line in lines).encode()),
        ("(FORMAT json)", json.dumps(lines).encode()),
        ("(FORMAT parquet)", parquet(typed)),
        ("WITH (FORMAT arrow)", arrow(typed)),
    ]
    for options, data in sources:
        for name in three.names:
            assert copied(three, name, f"COPY f FROM STDIN {options}", data) == 3, options
            assert query(three, name, "SELECT * FROM f ORDER BY k") == want, options
            execute(three, name, "TRUNCATE f")
    # Columns that are not named get their defaults.
    assert copied(three, three.names[1], "COPY f (v, k) FROM STDIN", b"x,1\ny,2\n") == 2
    assert query(three, three.names[1], "SELECT * FROM f ORDER BY k") == [[1, "x", None, 7], [2, "y", None, 7]]
    assert copied(three, three.names[0], "COPY f FROM STDIN", b"") == 0


def test_wrong_rows_say_where_and_store_nothing(three):
    execute(three, three.names[0], "CREATE TABLE w (k INTEGER PRIMARY KEY, d DATE CHECK (d > DATE '2000-01-01'))")
    for name in three.names:
        error = failed(three, name, "COPY w FROM STDIN (HEADER false)", b"1,2020-01-01\nzwei,2020-01-02\n", 400, 409)
        assert "Line: 2" in error["message"] and "\"k\"" in error["message"] and "zwei" in error["message"], error
        assert "/proc" not in json.dumps(error) and error["sqlstate"] == "22P02", error
        assert failed(three, name, "COPY w FROM STDIN", b"1,2020-01-01\n1,2020-01-02\n", 409)["sqlstate"] == "23505"
        assert failed(three, name, "COPY w FROM STDIN", b"1,1999-01-01\n", 409)["sqlstate"] == "23514"
        assert failed(three, name, "COPY w FROM STDIN", b",2020-01-01\n", 409)["sqlstate"] == "23502"
        error = failed(three, name, "COPY w FROM STDIN (FORMAT csv)", b"1,2020-01-01,3,4\n2,2020-01-01,3,4\n", 400, 409)
        assert error["hint"] and "/proc" not in json.dumps(error), error
        assert "STDIN" in failed(three, name, "COPY w FROM STDIN (FORMAT parquet)", b"PAR1 not really", 400, 409, 500)["message"]
        failed(three, name, "COPY w FROM STDIN (FORMAT json)", b"[{\"k\": 1}, {]", 400, 409)
        failed(three, name, "COPY w FROM STDIN (FORMAT arrow)", arrow({"k": [1], "d": ["2020-01-01"]})[:-40], 400, 409)
        assert query(three, name, "SELECT count(*) FROM w") == [[0]]


def test_what_is_refused(three):
    name = three.names[0]
    execute(three, name, "CREATE TABLE IF NOT EXISTS q (k INTEGER)")
    for sql, sqlstate in (
        ("COPY q FROM '/etc/passwd'", "42501"), ("COPY q FROM 'x.csv'", "42501"),
        ("COPY q FROM STDIN (FORMAT csv, filename true)", "0A000"), ("COPY q FROM STDIN (FORMAT avro)", "0A000"),
        ("COPY q FROM STDIN (FORMAT parquet, header)", "0A000"), ("COPY q FROM STDIN (store_rejects true)", "0A000"),
        ("COPY nope FROM STDIN", "42P01"), ("COPY q (nope) FROM STDIN", "42703"), ("COPY q FROM STDIN (", "42601"),
        ("COPY (SELECT 1) TO '/tmp/x'", "42501"), ("COPY q TO STDOUT", "22023"),
        ("COPY q FROM STDIN (DELIMITER '''), (SELECT 1) --')", None),
    ):
        error = failed(three, name, sql, b"1\n2\n", 400, 403, 409, 501)
        assert sqlstate is None or error["sqlstate"] == sqlstate, (sql, error)
    answer = three.request(name, "POST", "/db/execute", json.dumps({"sql": "COPY q FROM STDIN"}).encode(),
                           headers={"Content-Type": "application/json"})
    assert answer.status == 400 and "?sql=" in answer.json()["error"]["hint"], answer.body


def test_in_a_transaction(three):
    name = three.names[2]
    execute(three, name, "CREATE TABLE x (k INTEGER)")
    tx = three.request(name, "POST", "/db/tx").json()["result"]["id"]
    path = f"/db/execute?tx={tx}&sql=" + urllib.parse.quote("COPY x FROM STDIN")
    assert three.request(name, "POST", path, b"1\n2\n").json()["result"]["rows_affected"] == 2
    assert query(three, name, "SELECT count(*) FROM x") == [[0]]
    assert three.request(name, "POST", f"/db/tx/{tx}/commit").status == 200
    assert query(three, name, "SELECT count(*) FROM x") == [[2]]


def test_the_shell(three, tmp_path):
    for name in three.names:
        (tmp_path / "rows.csv").write_text("k,v\n" + "".join(f"{i},{'x' * 200}\n" for i in range(20000)))   # several pieces
        (tmp_path / "script.sql").write_text("CREATE OR REPLACE TABLE sh (k INTEGER, v VARCHAR) PARTITIONED BY (k);\n"
                                             "COPY sh FROM STDIN (HEADER false);\n1,one\n2,\"SELECT 1;\"\n\\.\n"
                                             "SELECT count(*) AS lines FROM sh;\n\\copy sh from 'rows.csv' (header)\n"
                                             "SELECT count(*) AS rows FROM sh;\n\\copy (FROM sh ORDER BY k) to 'out.parquet'\n"
                                             "\\copy sh to 'out.csv'\nTRUNCATE sh;\n\\copy sh from 'out.parquet'\n"
                                             "SELECT count(*) AS back FROM sh;\n")
        done = shell(three, name, "-f", "script.sql", "--format", "json", cwd=tmp_path)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        assert '"lines":2' in done.stdout.replace(" ", "") and '"rows":20002' in done.stdout.replace(" ", ""), done.stdout
        assert '"back":20002' in done.stdout.replace(" ", ""), done.stdout
        assert pyarrow.parquet.read_table(tmp_path / "out.parquet").num_rows == 20002
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 20003
        # All of standard input; an error leaves no line as a statement.
        assert shell(three, name, "-c", "COPY sh FROM STDIN", stdin="7,seven\n8,eight\n").returncode == 0
        lines = "1,a\nx,b\n3,DROP TABLE sh;\n\\.\n"
        wrong = shell(three, name, stdin=f"COPY sh FROM STDIN (HEADER false);\n{lines}SELECT count(*) AS n FROM sh;\n")
        assert wrong.returncode == 3 and "Line: 2" in wrong.stderr and "20004" in wrong.stdout, (wrong.stdout, wrong.stderr)
        assert shell(three, name, "-c", "\\copy sh from 'no such file'", cwd=tmp_path).returncode == 1
        # What is written has no options that nobody heeds.
        assert shell(three, name, "-c", "\\copy sh to 'bare.csv' (format csv, header false)", cwd=tmp_path).returncode == 0
        assert len((tmp_path / "bare.csv").read_text().splitlines()) == 20004
        assert shell(three, name, "-c", "\\copy sh to 'semi.csv' (delimiter ';')", cwd=tmp_path).returncode == 0
        assert (tmp_path / "semi.csv").read_text().splitlines()[0] == "k;v"
        wrong = shell(three, name, "-c", "\\copy sh to 'none.csv' (colour 'red')", cwd=tmp_path)
        assert wrong.returncode == 3 and "colour" in wrong.stderr and not (tmp_path / "none.csv").exists(), wrong.stderr
        # What was there stays until all has come, and so do its rights, and a link to it.
        (tmp_path / "semi.csv").chmod(0o600)
        (tmp_path / "link.csv").symlink_to("semi.csv")
        kept = (tmp_path / "semi.csv").read_text()
        assert shell(three, name, "-c", "\\copy (SELECT error('no') FROM sh) to 'link.csv'", cwd=tmp_path).returncode == 3
        assert (tmp_path / "semi.csv").read_text() == kept
        assert shell(three, name, "-c", "\\copy (SELECT 7 AS n) to 'link.csv'", cwd=tmp_path).returncode == 0
        assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "semi.csv").read_text() == "n\n7\n"
        assert (tmp_path / "semi.csv").stat().st_mode & 0o777 == 0o600
        assert not list(tmp_path.glob("*.part-*"))
        assert shell(three, name, "-c", "\\copy (SELECT 7 AS n) to '/dev/stdout'", cwd=tmp_path).stdout.startswith("n\n7\n")
        for left in ("semi.csv", "link.csv"):
            (tmp_path / left).unlink()


def test_cancelled_and_killed_clients_store_nothing(three):
    name = three.names[1]
    execute(three, name, "CREATE TABLE c (k INTEGER)")
    for end in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen([PROGRAM, "sql", url(three, name), "--username", "scott", "--tls-roots", three.cluster.ca, "-c",
                                    "COPY c FROM STDIN"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   env={**os.environ, "MERGANSER_PASSWORD": "tiger"})
        process.stdin.write(b"1\n2\n" * 1000)
        process.stdin.flush()
        running = "SELECT count(*) FROM cluster.queries WHERE sql LIKE 'COPY c FROM%'"
        until("the COPY runs", lambda: query(three, name, running) == [[1]], log=three.logs)
        process.send_signal(end)
        if end == signal.SIGINT:
            process.stdin.close()
        process.wait(timeout=60)
        until("the COPY is over", lambda: query(three, name, running) == [[0]], log=three.logs)
        assert query(three, name, "SELECT count(*) FROM c") == [[0]]


def channel(servers, name):
    return Channel(types.SimpleNamespace(port=servers.ports[name], tls=servers.cluster.tls))


def test_what_cannot_be_stored_is_not_asked_for(three):
    execute(three, three.names[0], "CREATE TABLE IF NOT EXISTS asked (k INTEGER)")
    for name in three.names:
        with channel(three, name) as client:
            for sql, sqlstate in (("COPY nope FROM STDIN", "42P01"), ("COPY asked FROM STDIN (", "42601"),
                                  ("COPY asked FROM STDIN (FORMAT avro)", "0A000")):
                frames = client.query(sql, input=True)
                assert [frame["type"] for frame in frames] == ["error"] and frames[0]["error"]["sqlstate"] == sqlstate, frames
            # What the transaction itself has made, maybe at another server, is there.
            own = "own_" + name.replace("-", "_")
            frames = client.query(f"BEGIN; CREATE TABLE {own} (k INTEGER)")
            assert frames[-1]["type"] == "done", frames
            client.send(type="query", id=2, sql=f"COPY {own} FROM STDIN", input=True)
            for rows in (b"1\n2\n", b""):
                assert client.receive()["type"] == "more"
                client.ws.send(struct.pack("<B3xIQ", 3, 2, 0) + rows)
            frames = client.collect([2])[2]
            assert frames[-1]["type"] == "done", frames
            assert client.query("COMMIT")[-1]["type"] == "done"
            assert client.table(f"SELECT count(*) AS n FROM {own}").to_pylist() == [{"n": 2}]


def test_a_silent_client_ends_its_statement():
    one = Cluster(scale=0, shards=1)
    try:
        one.start_server("--idle-timeout", "2s")
        with Channel(one) as client:
            client.query("CREATE TABLE silent (k INTEGER)")
            client.send(type="query", id=1, sql="COPY silent FROM STDIN", input=True)
            frame = client.receive()
            assert frame["type"] == "more", frame
            while frame["type"] != "error":     # the connection is not idle
                client.send(type="ping")
                frame = client.receive()
                time.sleep(0.1)
            assert frame["error"]["sqlstate"] == "57014" and "2000 ms" in frame["error"]["message"], frame
        with Channel(one) as client:
            assert client.table("SELECT count(*) AS n FROM silent").to_pylist() == [{"n": 0}]
    finally:
        one.remove()


def test_a_piece_may_come_after_the_cancel(three):
    execute(three, three.names[0], "CREATE TABLE late (k INTEGER)")
    with channel(three, three.names[1]) as client:
        for _ in range(10):
            for number in range(1, 5):
                client.send(type="query", id=number, sql="COPY late FROM STDIN", input=True)
            assert sorted((frame["type"], frame["id"]) for frame in (client.receive() for _ in range(4))) == [
                ("more", number) for number in range(1, 5)]
            # A server stores so much at once, and no more.
            frames = client.query("COPY late FROM STDIN", number=5, input=True)
            assert frames[-1]["error"]["sqlstate"] == "53300" and frames[-1]["error"]["hint"], frames
            for number in range(1, 5):
                client.send(type="cancel", id=number)
                client.ws.send(struct.pack("<B3xIQ", 3, number, 0) + b"1\n2\n")
            for frames in client.collect(range(1, 5)).values():
                assert frames[-1]["error"]["sqlstate"] == "57014", frames
        assert client.table("SELECT count(*) AS n FROM late").to_pylist() == [{"n": 0}]
