"""The shell as a user meets it: batch modes and exit codes, a terminal, the demo."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MG_BUILD", ROOT / "build"))
PROGRAM = pathlib.Path(os.environ.get("MG_PROGRAM", BUILD / "merganser"))
USER, PASSWORD = "scott", "tiger"  # as conftest.py bootstraps
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def environment(cluster, **more):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MERGANSER_")}
    env.update(
        MERGANSER_URL=cluster.url,
        MERGANSER_USERNAME=USER,
        MERGANSER_PASSWORD=PASSWORD,
        MERGANSER_TLS_ROOTS=str(cluster.ca),
        MERGANSER_HISTORY="",
    )
    env.update(more)
    return {name: value for name, value in env.items() if value is not None}


def sql(cluster, *args, stdin="", env=None, timeout=60):
    return subprocess.run(
        [PROGRAM, "sql", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        env=env or environment(cluster),
        timeout=timeout,
        cwd="/",
    )


class Terminal:
    """A program on a pseudo terminal of 100 x 30."""

    def __init__(self, *args, env):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(env, TERM="xterm", COLUMNS="100", LINES="30")
            os.execv(PROGRAM, [str(PROGRAM), *map(str, args)])
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

    def wait_for(self, wanted, seconds=20):
        """Read until `wanted` (a regular expression) has come; what came up to its end is taken."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(wanted, self.text)
            if found:
                taken, self.text = self.text[: found.end()], self.text[found.end() :]
                return taken
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {wanted!r}, have {self.text!r}"
            if select.select([self.fd], [], [], min(left, 0.2))[0]:
                try:
                    piece = os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    piece = ""
                assert piece, f"it ended; waited for {wanted!r}, have {self.text!r}"
                self.text += ANSI.sub("", piece)

    def type(self, text):
        os.write(self.fd, text.encode())

    def leave(self):
        """Ctrl-D at the prompt; between prompts the terminal itself would swallow it."""
        self.type("SELECT 'the end' AS e;\n")
        self.wait_for("│ the end")
        self.wait_for(r"\w+> ")
        self.type("\x04")
        return self.end()

    def end(self, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.text += ANSI.sub("", os.read(self.fd, 65536).decode(errors="replace"))
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it did not end: {self.text!r}")


# ---- batch --------------------------------------------------------


def test_json_is_one_value_a_statement_and_nothing_else(cluster):
    done = sql(
        cluster,
        "--format",
        "json",
        "-c",
        "SELECT 1 AS a; SET summarize = true; SELECT 'x' AS b FROM range(2)",
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [json.loads(line) for line in lines] == [[{"a": 1}], [], [{"b": "x"}, {"b": "x"}]]


def test_csv_streams_all_rows(cluster):
    done = sql(cluster, "--format", "csv", "-c", "SELECT o_orderkey FROM orders ORDER BY 1")
    lines = done.stdout.splitlines()
    assert lines[0] == "o_orderkey" and len(lines) == 15001
    assert [int(line) for line in lines[1:]] == sorted(int(line) for line in lines[1:])


def test_arrow_can_be_read_by_others(cluster, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "rows.arrows"
    done = sql(
        cluster, "--format", "arrow", "-o", path, "-c", "SELECT n_nationkey, n_name FROM nation"
    )
    assert done.returncode == 0, done.stderr
    table = pyarrow.ipc.open_stream(path.read_bytes()).read_all()
    assert table.num_rows == 25 and table.column_names == ["n_nationkey", "n_name"]


def test_the_first_error_ends_c_and_f_with_3(cluster, tmp_path):
    done = sql(
        cluster, "--format", "csv", "-c", "SELECT 1 AS a; SELECT * FROM missing; SELECT 2 AS b"
    )
    assert done.returncode == 3
    assert done.stdout == "a\n1\n"
    assert "42P01" in done.stderr and "missing" in done.stderr
    path = tmp_path / "three.sql"
    path.write_text("SELECT 1 AS a;\nSELECT * FROM missing;\nSELECT 2 AS b;\n")
    done = sql(cluster, "--format", "csv", "-f", path)
    assert (done.returncode, done.stdout) == (3, "a\n1\n")


def test_standard_input_is_answered_to_its_end(cluster):
    done = sql(
        cluster,
        "--format",
        "csv",
        stdin="SELECT 1 AS a;\nSELECT * FROM missing;\nSELECT 2\n AS b\n/\nSELECT 3 AS c",
    )
    assert done.returncode == 3
    assert done.stdout == "a\n1\nb\n2\nc\n3\n"


def test_the_commands_of_the_predecessors(cluster):
    done = sql(
        cluster,
        "--format",
        "csv",
        stdin=".set distributed = false;\n.set summarize = false;\n"
        ".show distributed\n.show summarize\n.set distributed = MAYBE;\n",
    )
    assert done.stdout.split() == ["distributed", "false", "summarize", "false"]
    assert done.returncode == 3
    assert "MAYBE" in done.stderr or "maybe" in done.stderr


@pytest.mark.parametrize(
    "change, code",
    [
        ({"MERGANSER_PASSWORD": "wrong"}, 2),
        ({"MERGANSER_TLS_ROOTS": None}, 2),
        ({"MERGANSER_USERNAME": "nobody"}, 2),
        ({"MERGANSER_USERNAME": "worker", "MERGANSER_PASSWORD": "united"}, 2),
        ({"MERGANSER_URL": "https://localhost:1"}, 2),
        ({"MERGANSER_URL": "ftp://localhost"}, 1),
        ({"MERGANSER_PASSWORD": None}, 1),
    ],
)
def test_who_cannot_come_in_is_told_why(cluster, change, code):
    done = sql(cluster, "-c", "SELECT 1", env=environment(cluster, **change))
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and done.stderr.startswith("error: ")


def test_an_unknown_option_is_named(cluster):
    done = sql(cluster, "--formt", "csv")
    assert done.returncode == 1 and '"--formt"' in done.stderr and '"--format"' in done.stderr
    done = subprocess.run([PROGRAM, "keys", "get"], capture_output=True, text=True)
    assert done.returncode == 1 and 'unknown command "keys"' in done.stderr


SLOW = "SELECT count(*) FROM range(100000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"


def test_a_statement_that_takes_too_long_ends_with_4(cluster):
    started = time.monotonic()
    done = sql(cluster, "--timeout", "500ms", "-c", SLOW)
    assert done.returncode == 4 and "57014" in done.stderr
    assert time.monotonic() - started < 10


def test_ctrl_c_in_a_batch_ends_with_130(cluster):
    process = subprocess.Popen(
        [PROGRAM, "sql", "-c", SLOW],
        env=environment(cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()


def test_a_reader_that_goes_away_is_no_error(cluster):
    done = subprocess.run(
        f"{PROGRAM} sql -q --format csv -c 'FROM lineitem' | head -1",
        shell=True,
        text=True,
        env=environment(cluster),
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.startswith("l_orderkey,") and done.stderr == ""


def test_a_server_that_dies_ends_the_batch_with_2(cluster):
    """A listener that takes the connection and closes it stands for a server that goes away."""
    listener = socket.create_server(("127.0.0.1", 0))

    def close_first():
        listener.accept()[0].close()

    thread = threading.Thread(target=close_first)
    thread.start()
    done = sql(
        cluster,
        "-c",
        "SELECT 1",
        env=environment(cluster, MERGANSER_URL=f"https://127.0.0.1:{listener.getsockname()[1]}"),
    )
    thread.join()
    listener.close()
    assert done.returncode == 2


# ---- a terminal --------------------------------------------------------


@pytest.fixture
def terminal(cluster):
    shell = Terminal("sql", env=environment(cluster))
    shell.wait_for("merganser> ")
    yield shell
    try:
        os.kill(shell.pid, signal.SIGKILL)
        os.waitpid(shell.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_the_banner_tells_server_user_and_nodes(cluster):
    shell = Terminal("sql", env=environment(cluster))
    banner = shell.wait_for("merganser> ")
    assert 'user "scott"' in banner and "node" in banner and "v1.5.5" in banner
    shell.type(".quit\n")
    assert shell.end() == 0


def test_statements_go_over_lines_and_show_a_table(terminal):
    terminal.type("SELECT count(*) AS n\n")
    terminal.wait_for(r"\.\.\.> ")
    terminal.type("FROM orders;\n")
    shown = terminal.wait_for(r"1 row .*\d s")
    assert "int64" in shown and "15000" in shown
    assert terminal.leave() == 0


def test_ctrl_c_cancels_the_statement_and_not_the_shell(terminal):
    terminal.type(SLOW + ";\n")
    time.sleep(1.5)
    started = time.monotonic()
    terminal.type("\x03")
    terminal.wait_for("57014")
    assert time.monotonic() - started < 5
    terminal.wait_for("merganser> ")
    terminal.type("SELECT 40 + 2 AS still;\n")
    terminal.wait_for("42")
    assert terminal.leave() == 0


def test_the_prompt_shows_a_transaction(terminal):
    terminal.type("BEGIN;\n")
    terminal.wait_for(r"merganser\*> ")
    terminal.type("SELECT error('oh') FROM nation;\n")
    terminal.wait_for("merganser!> ")
    terminal.type("ROLLBACK;\n")
    terminal.wait_for("merganser> ")
    assert terminal.leave() == 0


def test_ctrl_c_throws_away_what_was_typed(terminal):
    terminal.type("SELECT nonsense\n")
    terminal.wait_for(r"\.\.\.> ")
    terminal.type("more nonsense\x03")
    terminal.wait_for(r"\^C\r?\n\r*merganser> ")
    terminal.type("SELECT 6 * 7 AS a;\n")
    assert "42" in terminal.wait_for("1 row ")


def test_tab_completes_tables_columns_and_commands(terminal):
    terminal.type("SELECT count(*) FROM linei\t;\n")
    assert "60175" in terminal.wait_for("1 row ")
    terminal.type("SELECT max(nation.n_nationk\t) FROM nation;\n")
    assert "24" in terminal.wait_for("1 row ")
    terminal.type(".tabl\t\n")
    assert "partsupp" in terminal.wait_for("8 rows ")


def test_a_long_statement_shows_its_progress_and_wipes_it(terminal):
    terminal.type(SLOW + ";\n")
    terminal.wait_for(r"\d+ nodes?  \d+\.\d s", seconds=10)
    terminal.type("\x03")
    terminal.wait_for("merganser> ")


def test_the_history_keeps_statements_but_no_secrets(cluster, tmp_path):
    path = tmp_path / "history"
    shell = Terminal("sql", env=environment(cluster, MERGANSER_HISTORY=str(path)))
    shell.wait_for("merganser> ")
    shell.type("SELECT 11 AS remembered;\n")
    shell.wait_for("1 row ")
    shell.wait_for("merganser> ")
    shell.type("CREATE USER eve PASSWORD 'hush';\n")
    shell.wait_for("error")
    shell.wait_for("merganser> ")
    shell.type(".quit\n")
    assert shell.end() == 0
    text = path.read_text()
    assert "remembered" in text and "hush" not in text
    again = Terminal("sql", env=environment(cluster, MERGANSER_HISTORY=str(path)))
    again.wait_for("merganser> ")
    again.type("\x1b[A\x1b[A\n")
    assert "11" in again.wait_for("1 row ")
    assert again.leave() == 0


def test_meta_commands_of_both_dialects(terminal):
    for typed, wanted in [
        ("\\dt line%", "1 row "),
        (".nodes", "server-1"),
        ("\\d region", "r_regionkey"),
        (".mode csv", "merganser> "),
        ("SELECT 1 AS a, 2 AS b;", "a,b"),
        ("\\x", "mode is line"),
        ("SELECT 5 AS five;", "five = 5"),
        (".mode box", "merganser> "),
        (".nods", "Did you mean"),
        (".maxrows 4", "merganser> "),
        ("SELECT * FROM range(99);", "4 shown"),
        (".timer off", "timer is off"),
        ("\\copy x from y", "cannot open"),
        ("\\?", "Ctrl-C"),
    ]:
        terminal.type(typed + "\n")
        terminal.wait_for(re.escape(wanted))


def test_a_lost_server_is_found_again(new_cluster):
    own = new_cluster()
    own.start_server()
    shell = Terminal("sql", env=environment(own))
    shell.wait_for("merganser> ")
    own.processes["server"].kill()
    own.processes["server"].wait()
    shell.type("SELECT 1 AS a;\n")
    shell.wait_for("error 08006|cannot connect")
    shell.wait_for("merganser> ")
    own.start_server()
    shell.type("SELECT 6 * 7 AS b;\n")
    shell.wait_for("connected again")
    assert "42" in shell.wait_for("1 row ")
    assert shell.leave() == 0


def test_ctrl_d_typed_ahead_leaves_after_the_answer(terminal):
    terminal.type("SELECT count(*) AS n FROM range(20000000) WHERE range % 3 = 1;\n\x04")
    assert terminal.end() == 0
    assert "6666667" in terminal.text


def test_watch_repeats_until_ctrl_c(terminal):
    terminal.type(".timer off\nSELECT 'again' AS w;\n")
    terminal.wait_for("│ again")
    terminal.type("\\watch 0.2\n")
    for _ in range(3):
        terminal.wait_for("│ again")
    terminal.type("\x03")
    terminal.wait_for("merganser> ")
    terminal.type("SELECT 'alive' AS w;\n")
    terminal.wait_for("│ alive")


def test_the_last_statement_can_be_edited(cluster, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/before/after/g' \"$1\"\n")
    editor.chmod(0o755)
    shell = Terminal("sql", env=environment(cluster, EDITOR=str(editor)))
    shell.wait_for("merganser> ")
    shell.type("SELECT 'before' AS e;\n")
    shell.wait_for("│ before")
    shell.type("\\e\n")
    shell.wait_for("│ after")
    assert shell.leave() == 0


def test_rows_go_into_files_and_programs(cluster, tmp_path):
    done = sql(
        cluster,
        "-q",
        "--format",
        "csv",
        stdin=f".once {tmp_path}/one.csv\nSELECT 1 AS a;\nSELECT 2 AS b;\n"
        f".output |tr a-z A-Z >{tmp_path}/two.csv\nSELECT 'x' AS c;\n"
        ".output\nSELECT 3 AS d;\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b\n2\nd\n3\n"
    assert (tmp_path / "one.csv").read_text() == "a\n1\n"
    assert (tmp_path / "two.csv").read_text() == "C\nX\n"


def test_files_read_files(cluster, tmp_path):
    (tmp_path / "inner.sql").write_text("SELECT 1 AS a;\nSELECT * FROM missing;\nSELECT 2 AS b;\n")
    (tmp_path / "outer.sql").write_text(f".read {tmp_path}/inner.sql\nSELECT 3 AS c;\n")
    done = sql(cluster, "--format", "csv", "-f", tmp_path / "outer.sql")
    assert (done.returncode, done.stdout) == (3, "a\n1\n")
    (tmp_path / "loop.sql").write_text(f".read {tmp_path}/loop.sql\n")
    done = sql(cluster, "-f", tmp_path / "loop.sql")
    assert done.returncode == 1 and "read each other" in done.stderr


# ---- the demo --------------------------------------------------------


def children_of(pid):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def is_gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


@pytest.fixture(scope="module")
def demo_env():
    with tempfile.TemporaryDirectory(prefix="mg-test-") as folder:
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("MERGANSER_")
        }
        env.update(XDG_CACHE_HOME=folder + "/cache", TMPDIR=folder, MERGANSER_HISTORY="")
        yield env


def demo(env, *args, **kwargs):
    return subprocess.run(
        [PROGRAM, "demo", "--scale-factor", "0.01", *map(str, args)],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        **kwargs,
    )


def folders(env):
    return [
        path
        for path in pathlib.Path(env["TMPDIR"]).iterdir()
        if path.name.startswith("merganser-demo-")
    ]


def test_the_demo_runs_a_file_and_leaves_nothing(demo_env, tmp_path):
    path = tmp_path / "count.sql"
    path.write_text("SELECT count(*) AS n FROM lineitem;\n.demo nodes\n")
    done = demo(demo_env, "--workers", 2, "--run", path, "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "n\n60175\n"
    assert "worker-2   runs" in done.stderr
    assert folders(demo_env) == []


@pytest.mark.parametrize("option", ["--run", "--compare"])
def test_a_demo_of_what_cannot_be_read_ends_before_it_begins(demo_env, tmp_path, option):
    wrong = {"--run": (tmp_path / "nothing.sql", tmp_path), "--compare": (tmp_path / "nothing",)}[option]
    for path in wrong:
        done = demo(demo_env, option, path)
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.splitlines()) == 1 and str(path) in done.stderr, done.stderr


@pytest.mark.speed
def test_the_second_demo_starts_from_the_cache(demo_env):
    demo(demo_env, "--workers", 1, input="SELECT 1;\n")
    started = time.monotonic()
    done = demo(
        demo_env,
        "--workers",
        1,
        "--run",
        "-",
        "--format",
        "json",
        input="SELECT count(*) AS n FROM orders;\n",
    )
    assert time.monotonic() - started < 5
    assert json.loads(done.stdout) == [{"n": 15000}]


def test_an_error_in_the_demo_s_file_is_its_exit_code(demo_env, tmp_path):
    path = tmp_path / "bad.sql"
    path.write_text("SELECT * FROM nothing_there;\nSELECT 1;\n")
    done = demo(demo_env, "--workers", 0, "--run", path, "--format", "csv")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_demo_needs_no_name_of_this_machine(demo_env):
    apart = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /etc/hosts && exec "$@"', "sh"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to hide /etc/hosts")
    done = subprocess.run([*apart, PROGRAM, "demo", "--scale-factor", "0.01", "--workers", "1", "--run", "-", "--format", "csv"],
                          input="SELECT 42 AS a;\n", env=demo_env, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "a\n42\n"), done.stderr


def test_a_demo_of_several_servers(demo_env):
    sql = "SELECT state, count(*) FROM cluster.nodes WHERE role = 'server' GROUP BY ALL;\nSELECT count(*) FROM lineitem;\n"
    done = subprocess.run([PROGRAM, "demo", "--nodes", "3", "--scale-factor", "0.01", "--workers", "1", "--run", "-", "--format", "csv"],
                          input=sql, env=demo_env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "ready,3" in done.stdout and "60175" in done.stdout
    assert "server-3" in done.stderr and "worker-1" in done.stderr and folders(demo_env) == []


@pytest.fixture
def demo_terminal(demo_env):
    shell = Terminal("demo", "--scale-factor", "0.01", "--workers", "2", env=demo_env)
    yield shell
    try:
        os.kill(shell.pid, signal.SIGTERM)
        shell.end()
    except (ProcessLookupError, ChildProcessError):
        pass


def test_the_shell_goes_to_another_server_when_its_own_is_killed(demo_env):
    text = """CREATE TABLE t (k INTEGER) PARTITIONED BY (k);
INSERT INTO t SELECT range FROM range(100);
.demo kill 1
INSERT INTO t SELECT range FROM range(100, 150);
SELECT count(*), sum(k) FROM t;
"""
    done = subprocess.run([PROGRAM, "demo", "--nodes", "3", "--scale-factor", "0.01", "--workers", "0", "--run", "-", "--format", "csv"],
                          input=text, env=demo_env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "150,11175" in done.stdout
    assert "server-1 killed" in done.stderr + done.stdout
    assert "note: connected again to server-" in done.stderr


def test_killed_nodes_change_no_answer(demo_env, demo_terminal):
    shell = demo_terminal
    shell.wait_for("demo> ", seconds=60)
    count = "SELECT sum(l_orderkey) AS s, count(*) AS n FROM lineitem;\n"
    shell.type("SET strategy = 'cut';\n" + count)
    shell.wait_for("60175")
    shell.type(".demo kill 2\n")
    shell.wait_for("worker-1 killed")
    shell.type(count)
    shell.wait_for("60175")
    shell.type(".demo kill 3\n")
    shell.wait_for("worker-2 killed")
    shell.type(count)
    shell.wait_for("60175")
    shell.type(".demo start 2\n")
    shell.wait_for("worker-1 started")
    shell.type(count)
    shell.wait_for("60175")
    assert shell.leave() == 0
    assert folders(demo_env) == []


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_the_demo(demo_env, number, code):
    process = subprocess.Popen(
        [PROGRAM, "demo", "--scale-factor", "0.01", "--workers", "2", "--run", "-"],
        env=demo_env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "sample data" in line:
            break
    children = children_of(process.pid)
    assert len(children) == 3
    process.stdin.write(SLOW + ";\n")
    process.stdin.flush()
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(20) == code
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not all(map(is_gone, children)):
        time.sleep(0.02)
    assert all(map(is_gone, children))
    if number != signal.SIGKILL:
        assert folders(demo_env) == []
    process.communicate()


def test_the_comparison_says_equal_and_differs(demo_env, tmp_path):
    (tmp_path / "a.sql").write_text(
        "SELECT o_orderstatus, count(*), avg(o_totalprice) FROM orders GROUP BY 1 ORDER BY 1;\n"
    )
    done = demo(demo_env, "--workers", 2, "--compare", tmp_path, "--strategy", "cut")
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["equal"]
    (tmp_path / "b.sql").write_text("SELECT count(*) FROM duckdb_databases();\n")
    (tmp_path / "c.sql").write_text("SELECT uuid() AS u;\n")
    done = demo(demo_env, "--workers", 0, "--compare", tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].split()[-1] == "differs"


@pytest.mark.slow
def test_tpch_is_equal_over_workers_slow(demo_env):
    done = demo(
        demo_env, "--workers", 3, "--compare", ROOT / "queries" / "tpch", "--strategy", "cut"
    )
    assert done.returncode == 0, done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["equal"] * 22
