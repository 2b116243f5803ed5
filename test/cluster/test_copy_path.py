"""COPY ... FROM 'path': files in directories that a server was started with, and no others."""
import gzip

import pyarrow
import pyarrow.parquet
import pytest

from conftest import Cluster
from servers_kit import Servers

TABLE = "CREATE OR REPLACE TABLE t (i BIGINT, s VARCHAR) PARTITIONED BY (i)"
ROWS = pyarrow.table({"i": pyarrow.array([1, 2], pyarrow.int64()), "s": ["one", None]})


@pytest.fixture(scope="module")
def granted(request):
    cluster = Cluster(scale=0)
    request.addfinalizer(cluster.remove)
    cluster.inside = cluster.dir / "it's in"
    cluster.inside.mkdir()
    cluster.start_server("--threads", "2", "--memory-limit", "512MiB", "--copy-path", f"{cluster.inside}:{cluster.dir / 'data' / 'tls'}")
    return cluster


def copy(cluster, path, options=""):
    return f"COPY t FROM '{str(path).replace(chr(39), chr(39) * 2)}' {options}"


@pytest.mark.parametrize("name, write, options", [
    ("a.csv", lambda path: path.write_text("i,s\n1,one\n2,\n"), ""),
    ("a.txt", lambda path: path.write_text("1|one\n2|\n"), "(DELIMITER '|', HEADER false)"),
    ("a.json", lambda path: path.write_text('[{"i": 1, "s": "one"}, {"i": 2}]'), ""),
    ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b'{"i": 1, "s": "one"}\n{"i": 2}\n')), ""),
    ("a.parquet", lambda path: pyarrow.parquet.write_table(ROWS, path), ""),
    ("a.dat", lambda path: pyarrow.parquet.write_table(ROWS, path), "(FORMAT parquet)"),
    ("a.arrows", lambda path: pyarrow.ipc.new_stream(path, ROWS.schema).write_table(ROWS), ""),
])
def test_files_of_every_format_are_stored(granted, name, write, options):
    granted.sql(TABLE)
    write(granted.inside / name)
    granted.sql(copy(granted, granted.inside / name, options))
    granted.sql(copy(granted, name, options))  # below one of the directories
    assert granted.rows("SELECT i, s, count(*) FROM t GROUP BY ALL ORDER BY i") == [[1, "one", 2], [2, None, 2]]


def test_what_lies_elsewhere_is_refused(granted):
    granted.sql(TABLE)
    secret = granted.dir / "secret.csv"
    secret.write_text("1,secret\n")
    (granted.inside / "up.csv").symlink_to("../secret.csv")
    (granted.inside / "absolute.csv").symlink_to(secret)
    (granted.inside / "dir.csv").mkdir()
    for path in (secret, granted.inside / ".." / "secret.csv", granted.inside / "up.csv", granted.inside / "absolute.csv", "../secret.csv",
                 "/etc/passwd", "/proc/self/environ", granted.data / "node.json"):
        said = granted.refused(copy(granted, path))
        assert "42501" in said and "secret\n" not in said, (path, said)
    assert "there is no file" in granted.refused(copy(granted, granted.inside / "none.csv"))
    assert "no plain file" in granted.refused(copy(granted, granted.inside / "dir.csv"))
    assert granted.rows("SELECT count(*) FROM t") == [[0]]


def test_a_wrong_row_stores_nothing_and_is_named(granted):
    granted.sql(TABLE)
    (granted.inside / "wrong.csv").write_text("i,s\n1,one\nx,two\n")
    said = granted.refused(copy(granted, granted.inside / "wrong.csv"))
    assert "22" in said and '"x"' in said and "the file" in said and "/proc/" not in said
    assert granted.rows("SELECT count(*) FROM t") == [[0]]


def test_without_a_grant_there_is_none(empty):
    said = empty.refused("CREATE OR REPLACE TABLE t (i BIGINT); COPY t FROM '/etc/passwd'")
    assert "42501" in said and "--copy-path" in said and "STDIN" in said
    empty.sql("DROP TABLE t")


def test_a_directory_that_is_not_there_ends_the_start(granted):
    done = granted.run("server", "--data-dir", granted.dir / "other", "--copy-path", "/nowhere", check=False)
    assert done.returncode == 1 and "/nowhere" in done.stderr
    assert not (granted.dir / "other").exists()


def test_the_server_that_is_asked_reads_its_own_file(new_cluster):
    servers = Servers(new_cluster, scale=0)
    for name in servers.names:
        (servers.cluster.dir / f"of-{name}").mkdir()
        (servers.cluster.dir / f"of-{name}" / "own.csv").write_text(f"7,{name}\n")
        servers.start(name, "--copy-path", servers.cluster.dir / f"of-{name}", wait=name == "server-1")
    servers.await_ready(*servers.names)
    servers.execute(TABLE)
    for name in servers.names:
        answer = servers.post(name, "/db/execute", {"sql": "COPY t FROM 'own.csv' (HEADER false)"})
        assert answer.status == 200, answer.body
    assert servers.rows("server-1", "SELECT s FROM t ORDER BY s") == [[name] for name in servers.names]
