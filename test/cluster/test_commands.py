"""The commands beside the shell: what they print and how they exit."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MG_BUILD", ROOT / "build"))
PROGRAM = pathlib.Path(os.environ.get("MG_PROGRAM", BUILD / "merganser"))


def run(*args, env=None, cwd="/", **kwargs):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MERGANSER_")}
    clean.update(env or {})
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        env=clean,
        timeout=120,
        cwd=cwd,
        **kwargs,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    done = run(
        "bootstrap",
        "--data-dir",
        path / "data",
        "--client-username",
        "scott",
        "--tpch-scale-factor",
        0,
        "--shard-count",
        2,
        env={"MERGANSER_CLIENT_PASSWORD": "tiger", "MERGANSER_WORKER_PASSWORD": "united"},
    )
    assert done.returncode == 0, done.stderr
    return path


def user(folder, *args, password=None):
    return run(
        "user",
        *args,
        "--data-dir",
        folder / "data",
        env={"MERGANSER_PASSWORD": password} if password else None,
    )


def test_help_and_version_go_to_standard_output():
    done = run("--help")
    assert done.returncode == 0 and "bootstrap" in done.stdout and done.stderr == ""
    done = run("--version")
    assert done.returncode == 0 and "merganser 0" in done.stdout and "v1.5.5" in done.stdout
    done = run()
    assert done.returncode == 1 and done.stdout == "" and "usage" in done.stderr
    for line in run("--help").stdout.splitlines():
        if line.startswith("  ") and not line.startswith("  merganser"):
            page = run(*line[2:21].split(), "--help")
            assert page.returncode == 0 and "example:" in page.stdout


def test_what_does_not_exist_is_an_unknown_command():
    for words in (["kv", "follow"], ["backup", "create"], ["user", "creat"], ["nonsense"]):
        done = run(*words)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("error: unknown command")
    assert 'Did you mean "user create"' in run("user", "creat").stderr


def test_the_page_of_all_options_is_what_the_program_says():
    done = subprocess.run(
        ["python3", ROOT / "tools" / "clidoc.py", "--check", PROGRAM],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_users_come_change_and_go(folder):
    assert user(folder, "create", "ada", password="one").returncode == 0
    again = user(folder, "create", "ada", password="two")
    assert again.returncode == 1 and "already" in again.stderr
    assert user(folder, "check", "ada", password="one").returncode == 0
    assert user(folder, "check", "ada", password="two").returncode == 1
    assert user(folder, "check", "nobody", password="one").returncode == 1
    assert user(folder, "alter", "ada", "--role", "admin").returncode == 0
    assert user(folder, "check", "--username", "ada", password="one").returncode == 0
    assert user(folder, "alter", "ada", password="three").returncode == 0
    assert user(folder, "check", "ada", password="three").returncode == 0
    listed = json.loads(user(folder, "list", "--format", "json").stdout)
    assert {"name": "ada", "role": "admin"} in listed and {
        "name": "worker",
        "role": "worker",
    } in listed
    assert user(folder, "drop", "ada").returncode == 0
    gone = user(folder, "drop", "ada")
    assert gone.returncode == 1 and "ada" in gone.stderr


def test_the_last_admin_stays(folder):
    done = user(folder, "drop", "scott")
    assert done.returncode == 1 and "last admin" in done.stderr
    assert user(folder, "check", "scott", password="tiger").returncode == 0


def test_a_data_directory_that_is_not_there_is_not_made(tmp_path):
    done = run("user", "create", "ada", "--data-dir", tmp_path / "none", "--password", "x")
    assert done.returncode == 1 and "no cluster" in done.stderr
    assert not (tmp_path / "none").exists()


def test_users_of_a_running_server_are_not_changed_behind_its_back(cluster):
    done = run("user", "create", "eve", "--data-dir", cluster.data, "--password", "x")
    assert done.returncode == 1 and "is used by process" in done.stderr


def test_a_password_is_checked_by_the_server_too(cluster):
    def check(name, password):
        return run(
            "user",
            "check",
            name,
            "--url",
            cluster.url,
            "--tls-roots",
            cluster.ca,
            env={"MERGANSER_PASSWORD": password},
        ).returncode

    assert check("scott", "tiger") == 0
    assert check("scott", "wrong") == 1
    assert check("nobody", "tiger") == 1
    assert check("worker", "united") == 0


def test_certificates_are_made_and_shown(tmp_path):
    ca = ["--ca-cert-file", tmp_path / "ca.crt", "--ca-key-file", tmp_path / "ca.key"]
    assert (
        run(
            "cert", "ca", "--cert-file", tmp_path / "ca.crt", "--key-file", tmp_path / "ca.key"
        ).returncode
        == 0
    )
    done = run("cert", "create", *ca, "--names", "db.example,10.0.0.7", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run("cert", "client", *ca, "--common-name", "ada", cwd=tmp_path).returncode == 0
    for name in ("ca.key", "server.key", "client.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    shown = run("cert", "show", tmp_path / "server.crt").stdout
    assert "db.example" in shown and "10.0.0.7" in shown and "localhost" in shown
    before = (tmp_path / "server.crt").read_bytes()
    again = run("cert", "create", *ca, cwd=tmp_path)
    assert again.returncode == 1 or (tmp_path / "server.crt").read_bytes() == before
    assert (tmp_path / "server.crt").read_bytes() == before
    missing = run("cert", "show", tmp_path / "none.crt")
    assert missing.returncode == 1 and "none.crt" in missing.stderr


def connection(cluster):
    return {
        "MERGANSER_URL": cluster.url,
        "MERGANSER_USERNAME": "scott",
        "MERGANSER_PASSWORD": "tiger",
        "MERGANSER_TLS_ROOTS": str(cluster.ca),
    }


def test_the_cluster_commands_answer_people_and_programs(cluster):
    env = connection(cluster)
    nodes = json.loads(run("cluster", "nodes", "--format", "json", env=env).stdout)
    assert sorted(node["role"] for node in nodes) == ["server", "worker", "worker"]
    shards = json.loads(run("cluster", "shards", "--format", "json", env=env).stdout)
    assert [shard["id"] for shard in shards] == [0, 1, 2, 3, 4]
    status = run("cluster", "status", "--format", "json", env=env).stdout
    assert json.loads(status)["workers"] == 2 and status.count("\n") == 1
    assert "server-1" in run("cluster", "status", env=env).stdout
    done = run("cluster", "check", env=env)
    assert (done.returncode, done.stdout) == (0, "ok\n")
    done = run("cluster", "check", env=env | {"MERGANSER_URL": "https://localhost:1"})
    assert done.returncode == 2


def test_a_server_that_cannot_listen_leaves_no_directory(cluster, tmp_path):
    data = tmp_path / "data"
    busy = f"127.0.0.1:{cluster.port}"
    for args, message, hint in (
        (["--listen", "abc"], '"abc" is no address of the form HOST:PORT', "127.0.0.1:8765"),
        (["--listen", busy], f'cannot listen on "{busy}": address in use', "--listen"),
        (["--listen", "127.0.0.1:0", "--listen-http", busy], f'"{busy}": address in use', "--listen"),
    ):
        done = run("server", "--data-dir", data, *args)
        assert done.returncode == 1 and message in done.stderr and hint in done.stderr, done.stderr
        assert "made a new cluster" not in done.stderr and not data.exists()


def test_the_manifest_is_written_from_the_directory(cluster):
    as_json = json.loads(
        run("cluster", "manifest", "--data-dir", cluster.data, "--format", "json").stdout
    )
    assert len(as_json["shards"]) == 5 and all(
        len(shard["sha256"]) == 64 for shard in as_json["shards"]
    )
    assert "shards:" in run("cluster", "manifest", "--data-dir", cluster.data).stdout


def test_a_local_cluster_is_found_by_itself(cluster):
    for env, cwd in (({"MERGANSER_DATA_DIR": str(cluster.data)}, "/"),):
        done = run(
            "sql",
            "--format",
            "csv",
            "-c",
            "SELECT 42 AS a",
            env=env | {"MERGANSER_PASSWORD": "tiger"},
            cwd=cwd,
        )
        assert (done.returncode, done.stdout) == (0, "a\n42\n"), done.stderr


def test_the_doctor_sees_a_port_in_use(cluster, folder):
    done = run("doctor", "--data-dir", folder / "data", "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stdout
    done = run("doctor", "--data-dir", folder / "data", "--listen", f"127.0.0.1:{cluster.port}")
    assert done.returncode == 1 and "BAD  port" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    done = run("completion", shell)
    assert done.returncode == 0 and "tpch-scale-factor" in done.stdout
    if shell == "bash":
        script = (
            done.stdout
            + "\nCOMP_WORDS=(merganser sql --for); COMP_CWORD=2; _merganser; echo ${COMPREPLY[@]}\n"
        )
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert answer.stdout.split() == ["--format"] and answer.stderr == ""


def test_bootstrap_tells_generated_passwords_once(tmp_path):
    args = (
        "bootstrap",
        "--data-dir",
        tmp_path / "data",
        "--tpch-scale-factor",
        0,
        "--shard-count",
        1,
    )
    first = run(*args)
    assert first.returncode == 0 and len(first.stdout.splitlines()) >= 3
    again = run(*args)
    assert again.returncode == 0 and again.stdout == ""


def test_wrong_values_are_named(tmp_path):
    for args, word in (
        (["bootstrap", "--shard-count", "0"], "--shard-count"),
        (["bootstrap", "--tpch-scale-factor", "big"], "--tpch-scale-factor"),
        (["server", "--listen", "here there"], "--listen"),
        (["worker", "--threads", "two"], "--threads"),
        (["sql", "--format", "xml"], "--format"),
        (["demo", "--nodes", "10"], "--nodes"),
    ):
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 1 and word in done.stderr, args
    assert list(tmp_path.iterdir()) == []
