"""A mapper and a reducer in Python over the rows of a SELECT: results beside numpy's and DuckDB's own, errors with the user's lines,
and attempts to get out of the process that runs them."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import numpy
import pytest

from conftest import PASSWORD, PROGRAM, USER, basic
from servers_kit import Servers, until

SLOW_S = 120
HISTOGRAM = """
import numpy
source = "SELECT l_quantity::DOUBLE AS q FROM lineitem"
bins = 50
def mapper(batch):
    return numpy.histogram(batch.q, bins, range=(0, 50))[0]
def reducer(a, b):
    return a + b
def finalizer(counts):
    return {"counts": counts, "edges": numpy.histogram_bin_edges([], bins, (0, 50))}
"""
WORDS = """
import collections
source = "lineitem"
def mapper(batch):
    return collections.Counter(word for line in batch.l_comment for word in line.split())
def reducer(a, b):
    a.update(b)
    return a
"""


@pytest.fixture(scope="module")
def single():
    from conftest import Cluster
    cluster = Cluster(scale=0.01, shards=2)
    servers = Servers(lambda **_: cluster, count=1)
    servers.start("server-1")
    yield servers
    cluster.remove()


def run(servers, code, name="server-1", **body):
    return servers.post(name, "/jobs", {"code": code, **body}, timeout=SLOW_S)


def result(servers, code, name="server-1", **body):
    answer = run(servers, code, name, **body)
    assert answer.status == 200, answer.body
    return answer.json()["result"]


def refused(servers, code, **body):
    answer = run(servers, code, **body)
    assert answer.status != 200, answer.body
    return answer.status, answer.json()


def mapper(body, source="SELECT 1 AS x"):
    return f"source = {source!r}\ndef mapper(batch):\n    {body}\n"


# ---- results ----


def quantities(servers):
    return numpy.array([row[0] for row in servers.rows("server-1", "SELECT l_quantity::DOUBLE FROM lineitem")])


def test_a_histogram_is_numpys(single):
    counts, edges = numpy.histogram(quantities(single), 50, range=(0, 50))
    assert result(single, HISTOGRAM) == {"counts": counts.tolist(), "edges": edges.tolist()}


def test_values_are_given_by_name_and_count_more_than_the_files_own(single):
    counts, _ = numpy.histogram(quantities(single), 7, range=(0, 50))
    assert result(single, HISTOGRAM, values={"bins": 7})["counts"] == counts.tolist()
    assert result(single, mapper("return shared.a + shared['b'] + a"), values={"a": 1, "b": 2.5}) == [4.5]


def test_a_word_count_is_duckdbs(single):
    words = "SELECT unnest(string_split(l_comment, ' ')) AS word FROM lineitem"
    expected = single.rows("server-1", f"SELECT word, count(*) FROM ({words}) WHERE word <> '' GROUP BY word")
    assert result(single, WORDS) == dict(expected)


def test_yielded_pairs_are_reduced_by_key(single):
    code = ("source = 'SELECT n_regionkey, n_name FROM nation'\nchunk_size = 3\ndef mapper(batch):\n"
            "    for region, name in zip(batch.n_regionkey, batch.n_name):\n        yield int(region), len(name)\n"
            "def reducer(a, b):\n    return a + b\n")
    expected = single.rows("server-1", "SELECT n_regionkey, sum(length(n_name)) FROM nation GROUP BY ALL")
    assert result(single, code) == {str(region): int(total) for region, total in expected}


def test_a_class_under_the_decorator(single):
    code = ("import merganser as mg\n@mg.job(source='SELECT range AS x FROM range(10000)', chunk_size=1000)\nclass Sum:\n"
            "    def setup(self, shared):\n        self.by = shared['by']\n"
            "    def map(self, batch):\n        return int(batch['x'].sum()) * self.by\n"
            "    def reduce(self, a, b):\n        return a + b\n    def finish(self, v):\n        return [v]\n")
    assert result(single, code, values={"by": 3}) == [3 * sum(range(10000))]


def test_chunks_have_as_many_rows_as_the_file_says(single):
    answer = run(single, "source = 'SELECT range AS x FROM range(10000)'\nchunk_size = 2500\ndef mapper(b):\n    return b.size\n")
    assert answer.json()["rows"] == 10000
    assert sum(answer.json()["result"]) == 10000 and max(answer.json()["result"]) <= 2500
    few = result(single, "source = 'SELECT range AS x FROM range(100)'\nchunk_size = 7\ndef mapper(b):\n    return b.size\n")
    assert few == [7] * 14 + [2]


def test_where_limit_and_order_are_sqls(single):
    query = "SELECT l_orderkey FROM lineitem WHERE l_quantity > 49 ORDER BY l_orderkey DESC LIMIT 7"
    expected = single.rows("server-1", query)
    code = mapper("return batch.l_orderkey.tolist()", query)
    assert result(single, code) == [[row[0] for row in expected]]


def test_no_rows_give_no_value(single):
    empty = "SELECT 1 AS x WHERE false"
    assert result(single, mapper("return 1", empty)) == []
    assert result(single, mapper("return 1", empty) + "def reducer(a, b):\n    return a + b\n") is None


def test_a_batch_has_masks_slices_pandas_and_arrow_where_they_are(single):
    code = mapper("frame = batch.pandas; part = batch[batch.x % 2 == 0]; first = batch[2:4]; every = batch[::5]; picked = batch[[3, 1]]; "
                  "return [part.size, part.x.tolist(), first('x').tolist(), every.x.tolist(), picked.x.tolist(), batch.arrow.num_columns, "
                  "batch.names, int(frame.x.sum())]", "SELECT range AS x FROM range(10)")
    assert result(single, code) == [[5, [0, 2, 4, 6, 8], [2, 3], [0, 5], [3, 1], 1, ["x"], 45]]


def test_results_of_many_kinds_become_json(single):
    code = ("import datetime, decimal, numpy, pyarrow\n" + mapper(
        "return {'f': float('nan'), 'i': numpy.int64(3), 'b': b'\\x00\\xff', 's': {2, 1}, 't': (1, None), 'a': pyarrow.array([1, 2]), "
        "'d': datetime.date(2026, 1, 2), 3: 'three', 'inf': -numpy.inf}"))
    assert result(single, code) == [{"f": "NaN", "i": 3, "b": "AP8=", "s": [1, 2], "t": [1, None], "a": [1, 2], "d": "2026-01-02",
                                     "3": "three", "inf": "-Infinity"}]


def test_what_is_printed_comes_back(single):
    answer = run(single, mapper("print('hello', batch.size); import sys; print('there', file=sys.stderr); return 1"))
    assert answer.json()["printed"] == "hello 1\nthere\n"


def job_run(servers, *args):
    return servers.cluster.run("job", "run", *args, "--url", f"https://localhost:{servers.ports['server-1']}", "--username", USER,
                               "--password", PASSWORD, "--tls-roots", servers.cluster.ca, check=False)


def test_the_command_line(single, tmp_path):
    path = tmp_path / "job.py"
    path.write_text(HISTOGRAM)
    done = job_run(single, path, "--set", "bins=4")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == numpy.histogram(quantities(single), 4, range=(0, 50))[0].tolist()
    path.write_text(mapper("print('so far'); raise ValueError('not so')"))
    done = job_run(single, path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "so far" in done.stderr and 'File "<job>", line 3, in mapper' in done.stderr and "ValueError: not so" in done.stderr
    assert job_run(single, path, "--set", "bins").returncode == 1
    assert job_run(single, tmp_path / "none.py").returncode == 1


# ---- the user's mistakes ----


@pytest.mark.parametrize("code,status,text", [
    ("x = 1", 400, "no mapper"),
    ("def mapper(b):\n    return 1", 400, "source"),
    ("source = 'SELECT 1'\nmapper = 3", 400, "no mapper"),
    ("source = 'SELECT 1'\nchunk_size = 0\ndef mapper(b):\n    return 1", 400, "chunk_size"),
    ("source = 'SELECT 1'\nkey = 'x'\ndef mapper(b):\n    return 1", 501, "key"),
    ("source = 'SELECT 1", 400, "SyntaxError"),
    ("import nothing_such", 400, "ModuleNotFoundError"),
    (mapper("return batch.nothing"), 400, "no column 'nothing'"),
    (mapper("return lambda: 1") + "def reducer(a, b):\n    return a\n", 200, ""),
    (mapper("return 1", "SELECT nothing FROM lineitem"), 400, "nothing"),
    (mapper("return 1", "CREATE TABLE t (x INT)"), 403, ""),
    (mapper("return 1", "SELECT 1; SELECT 2"), 400, ""),
])
def test_mistakes_are_told(single, code, status, text):
    answer = run(single, code)
    assert (answer.status, text in answer.body.decode()) == (status, True), answer.body


def test_a_traceback_holds_the_users_lines_alone(single):
    code = "source = 'SELECT 1 AS x'\ndef inner(x):\n    return 1 // int(x - 1)\ndef mapper(b):\n    return inner(b.x[0])\n"
    status, answer = refused(single, code)
    assert status == 400 and answer["error"]["message"].startswith("ZeroDivisionError")
    assert "Line 3" in answer["error"]["detail"]
    assert answer["traceback"].startswith('Traceback (most recent call last):\n  File "<job>", line 5, in mapper')


def test_bad_requests(single):
    for body in ({}, {"code": 3}, {"code": "x", "values": []}, {"code": "x", "source": 1}, [], {"code": "a\0b"}):
        answer = single.post("server-1", "/jobs", body)
        assert answer.status == 400, (body, answer.body)
    assert single.request("server-1", "POST", "/jobs", b"{").status == 400
    assert single.request("server-1", "POST", "/jobs", b"{}", login=None).status == 401
    assert single.request("server-1", "POST", "/jobs", b"x" * (9 << 20)).status == 413


# ---- jobs that are looked at later ----


def begin(servers, code, **body):
    answer = run(servers, code, deferred=True, **body)
    assert answer.status == 202, answer.body
    assert answer.headers["Location"] == f"/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def state(servers, job):
    return servers.request("server-1", "GET", f"/jobs/{job}").json()["state"]


def test_a_deferred_job_is_looked_at_and_forgotten(single):
    job = begin(single, HISTOGRAM, values={"bins": 4})
    until("the job to end", lambda: state(single, job) == "done")
    answer = single.request("server-1", "GET", f"/jobs/{job}/result")
    assert answer.status == 200 and answer.json()["result"] == result(single, HISTOGRAM, values={"bins": 4})
    assert single.request("server-1", "GET", f"/jobs/{job}/result").json()["result"] == answer.json()["result"], "more than once"
    assert job in [one["id"] for one in single.request("server-1", "GET", "/jobs").json()["jobs"]]
    assert single.request("server-1", "DELETE", f"/jobs/{job}").status == 200
    assert single.request("server-1", "GET", f"/jobs/{job}").status == 404


def test_a_deferred_job_that_fails_says_why_later(single):
    job = begin(single, mapper("raise KeyError('so')"))
    until("the job to end", lambda: state(single, job) == "failed")
    answer = single.request("server-1", "GET", f"/jobs/{job}/result")
    assert answer.status == 400 and "KeyError: 'so'" in answer.json()["traceback"]


@pytest.mark.parametrize("code", [mapper("while True: pass"),
                                  "import time\n" + mapper("time.sleep(1000)"),
                                  mapper("return 1", "SELECT sum(a.range * b.range) AS x FROM range(1000000) a, range(1000000) b")],
                         ids=["mapper", "sleep", "source"])
def test_a_job_that_runs_is_cancelled_within_a_second(single, code):
    job = begin(single, code)
    until("the job to run", lambda: state(single, job) == "running")
    until("its process", lambda: cells(single))
    time.sleep(0.3)
    assert single.request("server-1", "GET", f"/jobs/{job}/result").status == 202
    assert single.request("server-1", "DELETE", f"/jobs/{job}").status == 202
    until("the job to end", lambda: state(single, job) == "cancelled")
    until("its processes to be gone", lambda: not cells(single), 10)
    assert single.request("server-1", "GET", f"/jobs/{job}/result").status in (400, 499, 409)


def test_a_job_is_its_users_and_an_admins(new_cluster):
    servers = Servers(new_cluster, count=1, scale=0)
    servers.cluster.run("user", "create", "ada", "--password", "ada-ada", "--data-dir", servers.cluster.data)
    servers.start("server-1")
    ada = ("ada", "ada-ada")
    job = begin(servers, mapper("return 1"))
    hers = servers.post("server-1", "/jobs", {"code": mapper("return 2"), "deferred": True}, login=ada).json()["id"]
    until("her job to end", lambda: servers.request("server-1", "GET", f"/jobs/{hers}", login=ada).json()["state"] == "done")
    for method in ("GET", "DELETE"):
        assert servers.request("server-1", method, f"/jobs/{job}", login=ada).status == 404
    assert [one["id"] for one in servers.request("server-1", "GET", "/jobs", login=ada).json()["jobs"]] == [hers]
    assert {one["id"] for one in servers.request("server-1", "GET", "/jobs").json()["jobs"]} == {job, hers}
    assert servers.request("server-1", "GET", f"/jobs/{hers}/result").json()["result"] == [2]


def test_events_tell_how_far_it_is_and_its_end(single):
    import http.client
    code = "import time\nchunk_size = 1\n" + mapper("time.sleep(0.4); print('x'); return 1", "SELECT range AS x FROM range(4)")
    job = begin(single, code)
    connection = single.cluster.connection(single.ports["server-1"])
    connection.request("GET", f"/jobs/{job}/events", headers={"Authorization": basic((USER, PASSWORD))})
    answer = connection.getresponse()
    assert isinstance(answer, http.client.HTTPResponse) and answer.status == 200 and answer.getheader("Content-Type") == "text/event-stream"
    events = [dict(line.split(": ", 1) for line in part.splitlines()) for part in answer.read().decode().split("\n\n") if part]
    assert [event["event"] for event in events][-1] == "done" and {event["event"] for event in events[:-1]} == {"progress"}
    assert json.loads(events[-1]["data"])["printed"] == "x\n" * 4 and json.loads(events[-1]["data"])["id"] == job


def test_nothing_else_is_there(single):
    for method, path, status in (("GET", "/jobs/none", 404), ("DELETE", "/jobs/none", 404), ("GET", "/jobs/none/result", 404),
                                 ("GET", "/jobs/none/other", 404), ("POST", "/jobs/none", 404), ("GET", "/jobs/", 404),
                                 ("DELETE", "/jobs", 404), ("GET", "/jobsx", 404)):
        assert single.request("server-1", method, path).status == status, (method, path)


def test_the_command_line_of_jobs(single, tmp_path):
    def job(*args):
        return single.cluster.run("job", *args, "--url", f"https://localhost:{single.ports['server-1']}", "--username", USER, "--password",
                                  PASSWORD, "--tls-roots", single.cluster.ca, check=False)

    path = tmp_path / "job.py"
    path.write_text(mapper("return 'text'") + "def reducer(a, b):\n    return a\n")
    done = job("run", path)
    assert (done.stdout, done.returncode) == ("text\n", 0)
    assert job("run", path, "--format", "json").stdout == '"text"\n'
    begun = json.loads(job("run", path, "--deferred", "--format", "json").stdout)
    until("the job to end", lambda: state(single, begun["id"]) == "done")
    shown = job("show", begun["id"])
    assert (shown.stdout, shown.returncode) == ("text\n", 0)
    assert begun["id"] in job("list").stdout
    path.write_text(mapper("while True: pass"))
    line = job("run", path, "--deferred")
    assert line.returncode == 0 and line.stdout.startswith("j-server-1-")
    runs = line.stdout.split("\t")[0]
    assert job("show", runs).returncode == 5
    assert job("cancel", runs).returncode == 0
    until("the job to end", lambda: state(single, runs) == "cancelled")
    assert job("show", runs).returncode == 4
    assert job("show", "none").returncode in (1, 3)


def on_a_terminal(single, path, interrupt):
    """job run with standard error at a terminal; what it shows there, its output and its exit code."""
    master, slave = os.openpty()
    process = subprocess.Popen([PROGRAM, "job", "run", path, "--url", f"https://localhost:{single.ports['server-1']}", "--username", USER,
                                "--password", PASSWORD, "--tls-roots", single.cluster.ca], stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while True:
            shown += os.read(master, 4096)
            if interrupt and b"rows" in shown:
                process.send_signal(signal.SIGINT)
                interrupt = False
    os.close(master)
    return shown, process.communicate()[0], process.returncode


def test_a_terminal_shows_how_far_it_is_and_ctrl_c_ends_it(single, tmp_path):
    path = tmp_path / "job.py"
    path.write_text("import time\n" + mapper("time.sleep(1); return 7"))
    shown, out, code = on_a_terminal(single, path, False)
    assert b" chunks " in shown and out == b"[7]\n" and code == 0
    path.write_text(mapper("while True: pass"))
    shown, out, code = on_a_terminal(single, path, True)
    assert b"cancelled" in shown and out == b"" and code == 130
    until("the processes to be gone", lambda: not cells(single), 10)


# ---- out of its process ----

C = "import ctypes; c = ctypes.CDLL(None, use_errno=True)"
ATTEMPTS = {
    "read a file": "open('/etc/passwd')",
    "read the server's keys": "open(KEY)",
    "list a folder": "import os; os.listdir('/')",
    "list /proc": "import os; os.listdir('/proc')",
    "read its own environment": "open('/proc/self/environ')",
    "write to /tmp": "open('/tmp/merganser-escape', 'w')",
    "write to /dev/null": "open('/dev/null', 'w')",
    "open by a C library": f"{C}; failed(c.open(b'/etc/shadow', 0), ctypes)",
    "load a library": "import ctypes; ctypes.CDLL(LIBRARY)",
    "truncate a file": "import os; os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)",
    "write to a file of Python's": "open(__import__('os').__file__, 'a')",
    "hold up who opens a file": "import fcntl; fcntl.fcntl(open(__import__('os').__file__), fcntl.F_SETLEASE, fcntl.F_WRLCK)",
    "have signals sent": "import fcntl; fcntl.fcntl(3, fcntl.F_SETOWN, SERVER)",
    "make writing signal": "import fcntl, os; fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)",
    "make a folder": "import os; os.mkdir('/tmp/merganser-escape')",
    "remove a file": "import os; os.unlink(KEY)",
    "change rights": "import os; os.chmod('/tmp', 0o777)",
    "rename": "import os; os.rename(KEY, KEY + '.x')",
    "link": "import os; os.symlink('/etc', '/tmp/merganser-escape')",
    "change the root": "import os; os.chroot('/tmp')",
    "a socket": "import socket; socket.socket()",
    "a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket; socket.socketpair()",
    "a request": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')",
    "pass a descriptor": f"{C}; failed(c.sendmsg(3, ctypes.create_string_buffer(56), 0), ctypes)",
    "fork": "import os; os.fork()",
    "a program": "import subprocess; subprocess.run(['true'])",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "a worker process": "import multiprocessing; multiprocessing.Process(target=print).start()",
    "kill the parent": "import os; os.kill(os.getppid(), 9)",
    "kill itself": "import os; os.kill(os.getpid(), 9)",
    "kill all": "import os; os.kill(-1, 9)",
    "kill the server": "import os; os.kill(SERVER, 9)",
    "trace": f"{C}; failed(c.ptrace(16, SERVER, 0, 0), ctypes)",
    "read another's memory": f"{C}; failed(c.process_vm_readv(SERVER, 0, 0, 0, 0, 0), ctypes)",
    "a handle on a process": "import os; os.pidfd_open(SERVER)",
    "3 GB": "bytearray(3 << 30)",
    "3 GB of numpy": "import numpy; numpy.ones(400_000_000)",
    "3 GB mapped": "import mmap; mmap.mmap(-1, 3 << 30)",
    "a file in memory": "import os; os.memfd_create('x')",
    "a huge number": "1 << (1 << 36)",
    "endless recursion": "f = lambda n: f(n + 1); f(0)",
    "raise its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "lower its niceness": "import os; os.nice(-5)",
    "another user": "import os; os.setuid(65534)",
    "a namespace": f"{C}; failed(c.unshare(0x10000000), ctypes)",
    "mount": f"{C}; failed(c.mount(b'x', b'/tmp', b'tmpfs', 0, 0), ctypes)",
    "bpf": f"{C}; failed(c.syscall(321, 0, ctypes.create_string_buffer(72), 72), ctypes)",
    "io_uring": f"{C}; failed(c.syscall(425, 1, ctypes.create_string_buffer(120)), ctypes)",
    "the system call table of 32 bits": f"{C}; failed(c.syscall(0x40000000 + 2, b'/etc/passwd', 0), ctypes)",
    "threads without end": "import threading, time\n    while True:\n"
                           "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
}
# What raises something else than PermissionError.
RAISES = {"load a library": "OSError", "a request": "URLError", "3 GB": "MemoryError", "3 GB of numpy": "MemoryError",
          "3 GB mapped": "OSError", "a huge number": "MemoryError", "endless recursion": "RecursionError", "raise its limits": "ValueError",
          "threads without end": "RuntimeError"}


@pytest.mark.parametrize("what", ATTEMPTS)
def test_attempts_to_get_out_raise_in_the_mapper(single, what):
    server = single.cluster.processes["server-1"].pid
    helper = ("def failed(result, ctypes):\n    if result >= 0: raise AssertionError('it worked')\n"
              "    import os\n    e = ctypes.get_errno()\n    raise OSError(e, os.strerror(e))\n")
    key = str(single.cluster.data / "tls" / "server.key")
    library = next(pathlib.Path(numpy.__file__).parent.rglob("*.so"))
    copy = single.cluster.dir / "library.so"  # one that loads where it may be read
    copy.write_bytes(library.read_bytes())
    code = f"SERVER = {server}\nKEY = {key!r}\nLIBRARY = {str(copy)!r}\n" + helper + mapper(ATTEMPTS[what] + "\n    return 'it worked'")
    status, answer = refused(single, code)
    assert status == 400, answer
    raised = answer["error"]["message"].split(":")[0]
    assert raised == RAISES.get(what, "PermissionError"), answer
    assert 'File "<job>"' in answer["traceback"] and raised in answer["traceback"]
    assert not os.path.exists("/tmp/merganser-escape")
    assert single.healthy("server-1") and single.cluster.processes["server-1"].pid == server


@pytest.mark.parametrize("body", ["import os; os._exit(0)", "import os; os.abort()", "import ctypes; ctypes.string_at(0)",
                                  "import os; os.close(3); return 1", "import os; os.write(3, b'\\x66' * 64); return 1"])
def test_a_process_that_ends_or_talks_nonsense_ends_the_job_alone(single, body):
    status, answer = refused(single, mapper(body))
    assert status == 400, answer
    assert result(single, mapper("return 2")) == [2]


FORGED = "import json, os, struct\ndef say(kind, payload):\n    os.write(3, struct.pack('=IQ', kind, len(payload)) + payload)\n"


@pytest.mark.parametrize("kind,payload", [(101, "{}"), (101, "[1]"), (101, "null"), (101, "{"), (102, "x"), (103, ""), (104, "1"),
                                          (106, "hello"), (101, '{"source": 1}'), (101, '{"source": "SELECT 1 AS x", "chunk_size": -1}')])
def test_an_answer_that_fits_and_is_the_users_own_does_no_harm(single, kind, payload):
    code = FORGED + f"say({kind}, {payload!r}.encode())\n" + mapper("return 1")
    answer = run(single, code)
    assert answer.status in (200, 400), answer.body
    answer.json()
    assert result(single, mapper("return 2")) == [2]


def test_a_forged_result_is_checked(single):
    forge = "say(102, b''); say(103, b'') if 0 else None; say(104, {!r}.encode()); return 1"
    for text in ('1, "user": "root", "id": "j-forged"', "", "{", "[1", '"\\ud800', "nonsense"):
        answer = run(single, FORGED + mapper(forge.format(text)))
        assert answer.status == 400, (text, answer.body)
    assert run(single, FORGED + mapper(forge.format("[7]"))).json()["result"] == [7], "it is the user's own result after all"


def test_a_frame_of_many_bytes_is_not_parsed(single):
    code = FORGED + "say(101, b'[' + b'0,' * (1 << 20) + b'0]')\n" + mapper("return 1")
    status, answer = refused(single, code)
    assert status == 413 and "128" not in answer["error"]["message"].split("bytes")[0]


def test_jobs_that_sleep_hold_up_no_statement(single):
    """Also where the user's code answers in its own name and then does not read."""
    sleeps = FORGED + "import time\n" + mapper("say(102, b''); time.sleep(1000)", "SELECT range AS x FROM range(2000000)")
    jobs = [begin(single, sleeps) for _ in range(6)]
    until("their processes", lambda: len(cells(single)) >= 6)
    time.sleep(1)
    assert single.rows("server-1", "SELECT count(*) FROM nation") == [[25]]
    for job in jobs:
        single.request("server-1", "DELETE", f"/jobs/{job}")
    until("the processes to be gone", lambda: not cells(single), 10)


def test_one_user_has_half_of_the_processes(single):
    sleeps = "import time\n" + mapper("time.sleep(1000)")
    jobs = [begin(single, sleeps) for _ in range(16)]
    until("their processes", lambda: len(cells(single)) == 16)
    status, answer = refused(single, mapper("return 1"))
    assert status == 429 and "16 for one user" in answer["error"]["message"]
    for job in jobs:
        single.request("server-1", "DELETE", f"/jobs/{job}")
    until("the processes to be gone", lambda: not cells(single), 10)


def test_processes_draw_different_numbers(single):
    code = "import numpy\nchunk_size = 2048\n" + mapper("import time; time.sleep(0.2); return [float(numpy.random.random())]",
                                                        "SELECT range AS x FROM range(500000)")
    numbers = [one[0] for one in result(single, code)]
    assert len(set(numbers)) == len(numbers) > 1


def test_a_given_value_counts_for_what_is_made_of_it(single):
    code = "n = 10\nsource = f'SELECT range AS x FROM range({n})'\ndef mapper(batch):\n    return (batch.size, n)\n"
    assert result(single, code, values={"n": 5}) == [[5, 5]]


def test_a_python_that_is_killed_ends_its_jobs_and_comes_again(single):
    job = begin(single, "import time\n" + mapper("time.sleep(1000)"))
    until("its process", lambda: cells(single))
    server = single.cluster.processes["server-1"].pid
    for task in pathlib.Path(f"/proc/{server}/task").iterdir():
        for child in (task / "children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    until("the job to end", lambda: state(single, job) == "failed")
    assert "Python of jobs" in single.request("server-1", "GET", f"/jobs/{job}/result").json()["error"]["message"]
    assert until("a job to run again", lambda: run(single, mapper("return 4")).status == 200)


def test_memory_that_is_used_up_is_a_memory_error(single):
    code = "kept = []\n" + mapper("kept.append(batch); return 1", "SELECT repeat('x', 10000) AS x FROM range(400000)")
    status, answer = refused(single, code)
    assert status == 400 and "MemoryError" in answer["error"]["message"], answer


def test_a_value_that_is_too_large_is_refused(single):
    code = mapper("return bytes(100 << 20)", "SELECT range AS x FROM range(100)") + "def reducer(a, b):\n    return a\n"
    status, answer = refused(single, code)
    assert status in (400, 413), answer
    assert single.healthy("server-1")


def cells(single):
    """Processes of jobs: children of the Python that is a child of the server."""
    def children(pid):
        return [int(one) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]

    server = single.cluster.processes["server-1"].pid
    return [cell for python in children(server) for cell in children(python)]


def test_processes_are_gone_when_the_client_goes(single):
    import http.client
    code = mapper("while True: pass")
    sent = threading.Thread(target=lambda: pytest.raises((OSError, http.client.HTTPException), run_short, single, code), daemon=True)
    sent.start()
    until("a process of the job", lambda: cells(single))
    sent.join()
    started = time.monotonic()
    until("the processes to be gone", lambda: not cells(single), 10)
    assert time.monotonic() - started < 5
    assert result(single, mapper("return 3")) == [3]


def run_short(servers, code):
    servers.post("server-1", "/jobs", {"code": code}, timeout=3)


def test_jobs_run_beside_each_other_and_leave_nothing(single):
    answers = {}

    def work(i):
        answers[i] = result(single, mapper(f"return {i}"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: [i] for i in range(8)}
    until("the processes to be gone", lambda: not cells(single), 10)


def test_a_server_without_jobs_says_so(new_cluster):
    servers = Servers(new_cluster, count=1, scale=0)
    servers.start("server-1", "--no-jobs")
    assert refused(servers, mapper("return 1"))[0] == 403
    servers.stop("server-1")
    servers.start("server-1", "--python", "/nonexistent/python")
    status, answer = refused(servers, mapper("return 1"))
    assert status in (404, 503) and "--python" in json.dumps(answer)


def test_any_server_runs_a_job_and_a_stopped_one_leaves_no_process(new_cluster):
    servers = Servers(new_cluster, count=2, scale=0.01, shards=2)
    servers.start_all()
    first = result(servers, HISTOGRAM)
    assert result(servers, HISTOGRAM, name="server-2") == first
    python = [int(one) for task in pathlib.Path(f"/proc/{servers.cluster.processes['server-2'].pid}/task").iterdir()
              for one in (task / "children").read_text().split()]
    assert python
    servers.kill("server-2")
    until("its Python to be gone", lambda: not any(is_alive(pid) for pid in python), 10)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False
