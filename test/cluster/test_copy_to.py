"""COPY ... TO STDOUT over HTTP, the shell and its channel, and TO files of a server that may be written: the bytes are DuckDB's."""
import gzip
import io
import json
import subprocess
import urllib.parse

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from conftest import PROGRAM, Cluster
from test_copy import shell

TABLE = """CREATE OR REPLACE TABLE t (i BIGINT, s VARCHAR, d DECIMAL(9,2), l INTEGER[], w TIMESTAMP) PARTITIONED BY (i);
INSERT INTO t VALUES (1, 'one', 1.50, [1, 2], '2020-01-02 03:04:05'),
    (2, NULL, NULL, NULL, NULL), (3, 'a,"b"', -2, [], '1999-12-31')"""
ORDERED = "(FROM t ORDER BY i)"
OPTIONS = ["", "(HEADER false)", "(FORMAT csv, DELIMITER '|', NULL 'NA')",
           "(FORCE_QUOTE (s, i), QUOTE '''')", "(FORCE_QUOTE *)",
           "WITH (DATEFORMAT '%d.%m.%Y', TIMESTAMPFORMAT '%d.%m.%Y %H')", "(FORMAT json)", "(FORMAT json, ARRAY true)",
           "(FORMAT JSON, ARRAY)"]


@pytest.fixture(scope="module")
def written(request):
    cluster = Cluster(scale=0)
    request.addfinalizer(cluster.remove)
    cluster.reads, cluster.out, cluster.more = cluster.dir / "reads", cluster.dir / "it's out", cluster.dir / "more"
    for place in (cluster.reads, cluster.out, cluster.out / "sub", cluster.more):
        place.mkdir()
    cluster.start_server("--threads", "2", "--memory-limit", "512MiB", "--copy-path", cluster.reads,
                         "--copy-path-write", cluster.out, "--copy-path-write", cluster.more)
    cluster.sql(TABLE)
    return cluster


def stdout(cluster, sql, **kwargs):
    return cluster.get("/db/query?q=" + urllib.parse.quote(sql), **kwargs)


def execute(cluster, sql):
    return cluster.post("/db/execute", {"sql": sql})


def quoted(path):
    return "'" + str(path).replace("'", "''") + "'"


def duckdbs(tmp_path, options):
    """What DuckDB itself writes of the same rows."""
    path = tmp_path / "duckdb"
    with duckdb.connect() as plain:
        plain.execute(TABLE.replace(" PARTITIONED BY (i)", ""))
        plain.execute(f"COPY {ORDERED} TO '{path}' {options or '(FORMAT csv)'}")
    return path.read_bytes()


@pytest.mark.parametrize("options", OPTIONS)
def test_the_bytes_are_duckdbs(written, tmp_path, options):
    want = duckdbs(tmp_path, options)
    answer = stdout(written, f"COPY {ORDERED} TO STDOUT {options}")
    assert (answer.status, answer.body) == (200, want), options
    assert ("ndjson" in answer.headers["Content-Type"]) == ("json" in options.lower() and "ARRAY" not in options)
    assert ("header=absent" in answer.headers["Content-Type"]) == ("HEADER false" in options)
    said = written.run("sql", written.url, "--username", "scott", "--tls-roots", written.ca, "-c", f"COPY {ORDERED} TO STDOUT {options}",
                       "--format", "json", env={"MERGANSER_PASSWORD": "tiger"})
    assert said.stdout.encode() == want
    assert execute(written, f"COPY {ORDERED} TO {quoted(written.out / 'same')} {options}").json()["result"] == {"rows_affected": 3}
    assert (written.out / "same").read_bytes() == want


def test_parquet_arrow_and_packed_rows(written):
    body = stdout(written, f"COPY {ORDERED} TO STDOUT (FORMAT parquet, COMPRESSION zstd)").body
    assert pyarrow.parquet.read_table(io.BytesIO(body)).column("i").to_pylist() == [1, 2, 3]
    answer = stdout(written, f"COPY {ORDERED} TO STDOUT (FORMAT arrow)")
    assert pyarrow.ipc.open_stream(answer.body).read_all().column("l").to_pylist() == [[1, 2], None, []]
    assert answer.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    assert sorted(stdout(written, "COPY t (s, i) TO STDOUT").body.decode().splitlines()) == ['"a,""b""",3', ',2', "one,1", "s,i"]
    for name, rows in (("a.parquet", lambda path: pyarrow.parquet.read_table(path).num_rows),
                       ("a.arrows", lambda path: pyarrow.ipc.open_stream(path.read_bytes()).read_all().num_rows),
                       ("sub/a.json.gz", lambda path: len(gzip.decompress(path.read_bytes()).splitlines()))):
        written.sql(f"COPY t TO {quoted(name)}")
        assert rows(written.out / name) == 3, name
    written.sql(f"COPY t TO {quoted(written.more / 'a.csv')} CSV HEADER DELIMITER AS ';'")
    assert (written.more / "a.csv").read_text().startswith("i;s;d;l;w\n")


def test_many_rows_are_streamed_and_a_late_error_is_seen(written, tmp_path):
    many = "(SELECT range AS i, repeat('x', 100) AS s FROM range(300000))"
    lines = stdout(written, f"COPY {many} TO STDOUT").body.splitlines()
    assert len(lines) == 300001 and lines[0] == b"i,s" and lines[-1].startswith(b"299999,xxx")
    value = "CASE WHEN range < 290000 THEN range ELSE error('late') END"
    late = f"(SELECT {value} AS i, repeat('x', 100) AS s FROM range(300000))"
    with pytest.raises(Exception):  # the connection is cut in the middle
        assert stdout(written, f"COPY {late} TO STDOUT").status != 200
    (written.out / "kept.csv").write_text("old\n")
    assert "late" in json.dumps(execute(written, f"COPY {late} TO {quoted(written.out / 'kept.csv')}").json()["error"])
    assert (written.out / "kept.csv").read_text() == "old\n"
    assert not [path for path in written.out.iterdir() if path.name.startswith(".")]
    written.sql(f"COPY {many} TO {quoted(written.out / 'kept.csv')}")
    assert len((written.out / "kept.csv").read_bytes().splitlines()) == 300001


def test_what_is_refused(written, empty):
    (written.out / "door").symlink_to(written.dir)
    (written.out / "link.csv").symlink_to(written.dir / "elsewhere.csv")
    for path in (written.dir / "x.csv", "../x.csv", written.out / ".." / "x.csv", written.out / "door" / "x.csv",
                 written.reads / "x.csv", "/etc/passwd", "/proc/self/fd/1", written.data / "node.json"):
        answer = execute(written, f"COPY t TO {quoted(path)}")
        assert answer.status == 403 and answer.json()["error"]["sqlstate"] == "42501", (path, answer.body)
    assert "--copy-path" in json.dumps(execute(written, f"COPY t FROM {quoted(written.more / 'a.csv')}").json()["error"])
    written.sql("COPY t TO 'link.csv'")  # takes the link's place, and is not written through it
    assert not (written.dir / "elsewhere.csv").exists() and not (written.out / "link.csv").is_symlink()
    for sql, status, part in (("COPY t TO 'sub'", 400, "directory"),
                              ("COPY t TO 'none/x.csv'", 400, "no file"), ("COPY t TO ''", 400, "path"),
                              ("COPY t TO STDOUT", 400, "/db/query"),
                              ("COPY t TO STDOUT (COMPRESSION gzip)", 400, "does not compress"),
                              ("COPY (INSERT INTO t (i) VALUES (1)) TO 'x.csv'", 403, "does not read"),
                              ("COPY t TO 'x.csv' (PER_THREAD_OUTPUT)", 400, "no option"),
                              ("COPY t TO 'x.csv' (PARTITION_BY (i))", 400, "no option"),
                              ("COPY none TO 'x.csv'", 400, "none"), ("COPY t TO 'x.csv' (DELIMITER 'long one')", 400, "")):
        answer = execute(written, sql)
        assert answer.status == status and part in json.dumps(answer.json()["error"]), (sql, answer.status, answer.body)
        assert "/proc/" not in answer.body.decode(), sql
    assert stdout(written, "COPY t TO 'x.csv'").status == 400
    assert not (written.out / "x.csv").exists()
    answer = execute(empty, "COPY (SELECT 1) TO '/tmp/x'")
    assert answer.status == 403 and "--copy-path-write" in answer.json()["error"]["hint"]


def test_it_belongs_to_its_transaction(written):
    tx = written.post("/db/tx", {}).json()["result"]["id"]
    assert written.post(f"/db/execute?tx={tx}", {"sql": "INSERT INTO t (i) VALUES (4)"}).status == 200
    sql = urllib.parse.quote("COPY (SELECT i FROM t ORDER BY i) TO STDOUT")
    assert written.get(f"/db/query?tx={tx}&q=" + sql).body == b"i\n1\n2\n3\n4\n"
    assert written.post(f"/db/tx/{tx}/rollback", {}).status == 200
    assert stdout(written, "COPY (SELECT count(*) AS n FROM t) TO STDOUT").body == b"n\n3\n"


def test_the_shells_copy_agrees(written, tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("\n".join(f"\\copy {what}" for what in (
        f"{ORDERED} to 'a.csv'", f"{ORDERED} to 'a.json'", f"{ORDERED} to 'a.txt' (header false, delimiter '|')",
        f"{ORDERED} to 'a.parquet'", "t to 'a.md' (format markdown)", f"{ORDERED} to 'b.csv' csv header")) + "\n")
    done = subprocess.run([PROGRAM, "sql", written.url, "--username", "scott", "--tls-roots", written.ca, "-f", script], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60, env={"MERGANSER_PASSWORD": "tiger", "PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    for name, options in (("a.csv", ""), ("b.csv", ""), ("a.json", "(FORMAT json)"), ("a.txt", "(HEADER false, DELIMITER '|')")):
        assert (tmp_path / name).read_bytes() == duckdbs(tmp_path, options), name
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").num_rows == 3
    assert (tmp_path / "a.md").read_text().startswith("| i |")


def test_at_every_server(three, tmp_path):
    three.execute("CREATE TABLE far (k INTEGER) PARTITIONED BY (k)")
    three.execute("INSERT INTO far FROM range(100)")
    for name in three.names:
        for path in ("", "&consistency=any"):
            answer = three.request(name, "GET", "/db/query?q=" + urllib.parse.quote("COPY (FROM far ORDER BY k) TO STDOUT") + path)
            assert answer.body.split() == [b"k", *(str(k).encode() for k in range(100))], (name, answer.body)
        copied = shell(three, name, "-c", "BEGIN", "-c", "INSERT INTO far VALUES (100)",
                       "-c", "COPY (SELECT count(*) AS n FROM far) TO STDOUT", "-c", "ROLLBACK")
        assert copied.stdout.split() == ["n", "101"], (name, copied.stderr)
