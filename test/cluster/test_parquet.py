"""Parquet: from the shell and over HTTP, with the types and rows of DuckDB's own COPY."""
import io
import os
import pathlib
import signal
import socket
import subprocess
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PASSWORD, PROGRAM, USER, basic

BUILD = pathlib.Path(os.environ.get("MG_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))

PARQUET = "application/vnd.apache.parquet"

TYPES = """
SELECT * FROM (VALUES
 (1::TINYINT, true, 12.34::DECIMAL(15,2), (-170141183460469231731687303715884105727)::HUGEINT,
  'f0000000-0000-4000-8000-000000000001'::UUID, [1, NULL, 3], {'a': 1, 'b': 'x'}, MAP {'k': 1.5},
  TIMESTAMPTZ '2024-02-29 12:00:00.123456+02', '\\xAA\\x00'::BLOB, 'b'::ENUM('a', 'b'), 1e300, '',
  DATE '0001-01-01', TIME '23:59:59.999999', INTERVAL 3 MONTH, 18446744073709551615::UBIGINT,
  12345678901234567890123456789.123456789::DECIMAL(38,9), TIMESTAMP_NS '2024-01-01 00:00:00.123456789',
  [[{'x': ['y']}]], 1.5::FLOAT),
 (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL)
) t(i8, bo, dec, huge, id, li, st, ma, tz, bl, en, db, vc, da, ti, iv, u64, bigdec, ns, deep, fl)
"""


def shell(cluster, *args, **kwargs):
    env = {**os.environ, "MERGANSER_PASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
    return subprocess.run([PROGRAM, "sql", cluster.url, "--username", USER, "--tls-roots", cluster.ca, *map(str, args)],
                          env=env, capture_output=True, timeout=kwargs.pop("timeout", 120), **kwargs)


def query(cluster, sql, accept=PARQUET, **kwargs):
    return cluster.request("POST", "/db/query", body=sql.encode(),
                           headers={"Content-Type": "text/plain", "Accept": accept}, **kwargs)


def same_as_duckdb(path, sql, tmp_path):
    """Schema and rows of the file, as DuckDB and pyarrow read them, against DuckDB's own file."""
    own, db = tmp_path / "own.parquet", duckdb.connect()
    db.execute(f"COPY ({sql}) TO '{own}' (FORMAT parquet)")
    schema = ("SELECT name, type, type_length, repetition_type, num_children, converted_type, scale, precision, "
              "logical_type FROM parquet_schema('%s')")
    assert db.sql(schema % path).fetchall() == db.sql(schema % own).fetchall()
    assert db.sql(f"DESCRIBE FROM '{path}'").fetchall() == db.sql(f"DESCRIBE FROM '{own}'").fetchall()
    assert db.sql(f"FROM '{path}'").to_arrow_table().equals(db.sql(f"FROM '{own}'").to_arrow_table())
    one, other = pq.read_table(path), pq.read_table(own)
    assert one.schema.equals(other.schema) and one.equals(other)


@pytest.mark.parametrize("tail", ["", " WHERE false"])
def test_types_are_those_of_duckdbs_copy(cluster, tmp_path, tail):
    sql, out = TYPES + tail, tmp_path / "types.parquet"
    run = shell(cluster, "--format", "parquet", "-o", out, "-c", sql)
    assert run.returncode == 0, run.stderr
    same_as_duckdb(out, sql, tmp_path)
    answer = query(cluster, sql)
    assert answer.status == 200 and answer.headers["Content-Type"] == PARQUET, answer.body[:300]
    (tmp_path / "http.parquet").write_bytes(answer.body)
    same_as_duckdb(tmp_path / "http.parquet", sql, tmp_path)


def test_equal_names_become_as_duckdbs(cluster, tmp_path):
    out, sql = tmp_path / "names.parquet", """SELECT 1 AS a, 2 AS a, 3 AS "A", 4 AS "q""'x", 5 AS " " """
    assert shell(cluster, "--format", "parquet", "-o", out, "-c", sql).returncode == 0
    same_as_duckdb(out, sql, tmp_path)


def test_a_table_keeps_its_rows_and_their_order(cluster, tmp_path):
    sql = "SELECT * FROM lineitem ORDER BY l_orderkey, l_linenumber"
    out = tmp_path / "lineitem.parquet"
    assert shell(cluster, "--format", "parquet", "-o", out, "-c", sql).returncode == 0
    (tmp_path / "http.parquet").write_bytes(query(cluster, sql).body)
    db = duckdb.connect()
    rows = db.sql(f"FROM '{out}'").fetchall()
    assert len(rows) == 60175
    keys = [(row[0], row[3]) for row in rows]
    assert keys == sorted(keys)
    assert rows == db.sql(f"FROM '{tmp_path / 'http.parquet'}'").fetchall()
    arrow = query(cluster, sql, "application/vnd.apache.arrow.stream").body
    assert pq.read_table(out).to_pylist() == pa.ipc.open_stream(io.BytesIO(arrow)).read_all().to_pylist()


def test_standard_output_and_pipes_take_it(cluster, tmp_path):
    out = tmp_path / "redirected.parquet"
    env = {**os.environ, "MERGANSER_PASSWORD": PASSWORD}
    command = [PROGRAM, "sql", cluster.url, "--username", USER, "--tls-roots", cluster.ca, "--format", "parquet",
               "-c", "SELECT range AS i FROM range(300000)"]
    with open(out, "wb") as file:
        subprocess.run(command, env=env, stdout=file, check=True, timeout=60)
    piped = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert piped == out.read_bytes()
    assert duckdb.sql(f"SELECT count(*), sum(i) FROM '{out}'").fetchall() == [(300000, 44999850000)]


def test_one_file_holds_one_result(cluster, tmp_path):
    out = tmp_path / "one.parquet"
    run = shell(cluster, "--format", "parquet", "-o", out, "-c", "SELECT 1 AS a; SELECT 2 AS b")
    assert run.returncode == 1 and b"holds a result already" in run.stderr
    assert duckdb.sql(f"FROM '{out}'").fetchall() == [(1,)]
    piped = shell(cluster, "--format", "parquet", "-c", "SELECT 1 AS a", "-c", "SELECT 2 AS b")
    assert piped.returncode == 1 and b"holds a result already" in piped.stderr
    assert piped.stdout.endswith(b"PAR1") and piped.stdout.count(b"PAR1") == 2


def test_the_shell_changes_files_and_modes(cluster, tmp_path):
    script = (f".mode parquet\n.output {tmp_path}/a.parquet\nSELECT 1 AS a;\n.output {tmp_path}/b.parquet\n"
              f"SELECT 2 AS b;\n.output\n.mode csv\nSELECT 3 AS c;\n")
    run = shell(cluster, input=script.encode())
    assert run.returncode == 0 and run.stdout == b"c\n3\n", run.stderr
    assert duckdb.sql(f"FROM '{tmp_path}/a.parquet'").fetchall() == [(1,)]
    assert duckdb.sql(f"FROM '{tmp_path}/b.parquet'").fetchall() == [(2,)]


def test_a_statement_that_fails_late_leaves_no_half_file(cluster, tmp_path):
    out = tmp_path / "late.parquet"
    sql = "SELECT CASE WHEN range = 2900000 THEN error('late') ELSE range END AS i FROM range(3000000)"
    run = shell(cluster, "--format", "parquet", "-o", out, "-c", sql)
    assert run.returncode == 3 and b"late" in run.stderr
    assert out.stat().st_size == 0
    answer = query(cluster, sql)
    assert answer.status == 400 and "late" in answer.json()["error"]["message"], (answer.body, cluster.log()[-2000:])


def spill_files(cluster):
    """Everything below spill/, and files without a name that the server holds open."""
    pid = cluster.processes["server"].pid
    held = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if "/spill/" in target:
            held.append(target)
    return held + os.listdir(cluster.data / "spill")


def wait_for(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def start_request(cluster, sql):
    sock = cluster.tls().wrap_socket(socket.create_connection(("localhost", cluster.port)), server_hostname="localhost")
    sock.sendall((f"POST /db/query HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic((USER, PASSWORD))}\r\nAccept: {PARQUET}\r\n"
                  f"Content-Type: text/plain\r\nContent-Length: {len(sql)}\r\n\r\n{sql}").encode())
    return sock


def test_a_client_that_leaves_leaves_no_file(new_cluster):
    cluster = new_cluster()
    cluster.start_server()
    sql = "SELECT range AS i, md5(range::VARCHAR) AS m FROM range(1000000000)"
    sock = start_request(cluster, sql)
    wait_for(lambda: any("/spill/" in name for name in spill_files(cluster)))
    assert os.listdir(cluster.data / "spill") == [], "it has no name, so no kill can leave it"
    sock.close()
    wait_for(lambda: spill_files(cluster) == [])
    # In the middle of being sent: the client reads the head and goes.
    sock = start_request(cluster, "SELECT range AS i, md5(range::VARCHAR) AS m FROM range(1000000)")
    assert sock.recv(15).startswith(b"HTTP/1.1 200")
    sock.close()
    wait_for(lambda: spill_files(cluster) == [])
    # And a server that is killed.
    sock = start_request(cluster, sql)
    wait_for(lambda: any("/spill/" in name for name in spill_files(cluster)))
    cluster.processes["server"].send_signal(signal.SIGKILL)
    cluster.processes["server"].wait()
    assert os.listdir(cluster.data / "spill") == []
    sock.close()
