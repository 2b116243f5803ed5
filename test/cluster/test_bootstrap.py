"""bootstrap as a user meets it: killed at any moment with its children, a full disk, odd directories."""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import duckdb
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("MG_PROGRAM", pathlib.Path(os.environ.get("MG_BUILD", ROOT / "build")) / "merganser"))
ARGS = ["--client-username", "scott", "--client-password", "tiger", "--worker-password", "united",
        "--tpch-scale-factor", "0.1", "--shard-count", "3"]


def command(data, *more):
    return [PROGRAM, "bootstrap", "--data-dir", data, *ARGS, *more]


def bootstrap(data, *more, **kwargs):
    return subprocess.run(command(data, *more), capture_output=True, text=True, timeout=200, **kwargs)


def checksums(data):
    """Of every table of every file: rows and a sum over all columns, hidden ones too."""
    found = {}
    with duckdb.connect() as engine:
        for shard in range(4):
            engine.execute(f"ATTACH '{data}/shards/{shard:04}.duckdb' AS s{shard} (READ_ONLY)")
            names = engine.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND "
                                   "schema_name = 'main'", [f"s{shard}"]).fetchall()
            for (name,) in names:
                found[shard, name] = engine.execute(
                    f"SELECT count(*), sum(hash(t)) FROM s{shard}.main.{name} t").fetchone()
    return found


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def gone(pid):
    """Not there, or dead and not yet collected by whoever inherited it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    data = tmp_path_factory.mktemp("undisturbed") / "data"
    start = time.monotonic()
    done = bootstrap(data)
    assert done.returncode == 0, done.stderr
    return checksums(data), time.monotonic() - start


def test_killed_at_any_moment_it_can_be_finished(undisturbed, tmp_path):
    wanted, seconds = undisturbed
    chance = random.Random(11)
    data = tmp_path / "data"
    kills = 0
    for number in range(6):
        process = subprocess.Popen(command(data), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(chance.uniform(0, seconds))      # the moment of the fault
        family = children(process.pid)
        child_only = number % 2 == 1 and family
        victim = chance.choice(family) if child_only else process.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        _, text = process.communicate(timeout=100)
        kills += process.returncode != 0
        if process.returncode > 0:
            assert process.returncode == 1 and "generator process" in text and "signal 9" in text
        deadline = time.monotonic() + 20
        while not all(gone(pid) for pid in family):
            assert time.monotonic() < deadline, "a generator has outlived its bootstrap"
            time.sleep(0.01)
    done = bootstrap(data)
    assert done.returncode == 0, done.stderr
    assert kills > 0
    assert checksums(data) == wanted
    assert sorted(os.listdir(data / "shards")) == [f"{i:04}.duckdb" for i in range(4)]
    assert "nothing was changed" in bootstrap(data).stderr


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder],
                                           capture_output=True).returncode != 0:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(undisturbed, small_disk):
    data = small_disk / "data"
    done = bootstrap(data)
    assert done.returncode == 1 and "No space left" in done.stderr and "run bootstrap again" in done.stderr
    assert not [name for name in os.listdir(data / "shards") if ".new" in name]
    subprocess.run(["mount", "-o", "remount,size=400m", small_disk], check=True)
    done = bootstrap(data)
    assert done.returncode == 0, done.stderr
    assert checksums(data) == undisturbed[0]


def test_odd_directories(tmp_path):
    small = ["--tpch-scale-factor", "0.01", "--shard-count", "1"]
    odd = tmp_path / "a b ü'c"
    done = bootstrap(odd, *small)
    assert done.returncode == 0 and done.stderr.endswith("'\\''c'\n")
    assert len(list((odd / "shards").iterdir())) == 2
    file = tmp_path / "file"
    file.write_text("")
    done = bootstrap(file, *small)
    assert done.returncode == 1 and "not a directory" in done.stderr


def test_a_running_bootstrap_keeps_others_out(tmp_path):
    data = tmp_path / "data"
    first = subprocess.Popen(command(data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not children(first.pid):      # then it holds its lock
        assert first.poll() is None
    second = bootstrap(data, "--overwrite")
    assert second.returncode == 1 and f"process {first.pid}" in second.stderr
    assert first.wait(timeout=200) == 0
    shutil.rmtree(data)


def test_a_generator_is_not_for_hands():
    done = subprocess.run([PROGRAM, "sample-generator", "tpch"], capture_output=True, text=True)
    assert done.returncode == 1 and "bootstrap" in done.stderr and done.stdout == ""
