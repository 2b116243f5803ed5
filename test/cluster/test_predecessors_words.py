"""Three nodes by the start lines of DuckDB-Service, `-id -http -raft -leader DIR`, and its demo: 3 creates, 3 inserts, 3 selects."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from conftest import PROGRAM
from servers_kit import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 120


@pytest.fixture
def start(tmp_path):
    """start(line, env): a server with these words, in tmp_path; ended after the test."""
    made = []

    def begin(line, **env):
        log = open(tmp_path / f"{len(made)}.log", "wb")
        made.append(subprocess.Popen([PROGRAM, "server", *line.split()], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     env={**os.environ, **env}))
        log.close()
        return tmp_path / f"{len(made) - 1}.log"

    yield begin
    for one in made:
        one.terminate()
    for one in made:
        assert one.wait(60) == 0


def wait_for(text, log):
    deadline = time.monotonic() + SECONDS
    while not (found := re.search(text, log.read_text(errors="replace"))):
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)
    return found


def test_three_nodes_and_the_demo(start, tmp_path):
    http, raft = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    first = start(f"-id node1 -http localhost:{http[0]} -raft localhost:{raft[0]} data1")
    password = wait_for(r"user admin +(\S+)", first).group(1)
    secret = wait_for(r"servers join with (\S+)", first).group(1)
    wait_for("event=server.ready", first)
    own = {"MERGANSER_PASSWORD": secret, "MERGANSER_TLS_ROOTS": str(tmp_path / "data1" / "tls" / "ca.crt")}
    for i in (1, 2):
        wait_for("event=server.ready", start(f"-id node{i + 1} -http localhost:{http[i]} -raft localhost:{raft[i]} "
                                             f"-leader localhost:{http[0]} data{i + 1}", **own))
    urls = [word for port in http for word in ("--url", f"https://localhost:{port}")]
    demo = subprocess.run([sys.executable, ROOT / "examples" / "http_sql.py", *urls, "--tls-roots", own["MERGANSER_TLS_ROOTS"],
                           "--username", "admin", "--password", password], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert demo.returncode == 0, demo.stderr
    answers = [json.loads(line) for line in demo.stdout.splitlines()]
    selected = [answer["result"]["values"] for answer in answers if "values" in answer["result"]]
    assert selected[0] == [["Bern", "CH"], ["Oslo", "NO"], ["Quito", "EC"]]
    assert len(selected) == 3 and all(len(values) == 3 for values in selected)
    inserted = [answer["result"].get("rows_affected") for answer in answers if "rows_affected" in answer["result"]]
    assert inserted.count(3) == 3
