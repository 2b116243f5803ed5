"""The Python package (python/src/merganser) against real servers; clusters are those of test/cluster."""
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python" / "src"
sys.path[:0] = [str(SOURCE), str(ROOT / "test" / "cluster")]

from conftest import PASSWORD, USER, Cluster  # noqa: E402
from servers_kit import three_servers  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    """One server, with TPC-H tables at a small scale."""
    one = Cluster()
    try:
        one.start_server()
        yield one
        assert one.stop() == {"server": 0}
    finally:
        one.remove()


@pytest.fixture(scope="session")
def connect(cluster):
    """connect(**options): a connection to it; each is closed at the end."""
    import merganser
    made = []

    def connection(**options):
        arguments = {"url": cluster.url, "username": USER, "password": PASSWORD, "tls_roots": cluster.ca, **options}
        made.append(merganser.connect(**arguments))
        return made[-1]

    yield connection
    for one in made:
        one.close()


@pytest.fixture
def con(connect):
    """A connection of this test alone."""
    one = connect()
    yield one
    one.close()


@pytest.fixture(scope="module")
def three():
    """Three servers; a test may kill one, and starts it again."""
    with three_servers(Cluster) as servers:
        yield servers


@pytest.fixture
def new_server():
    """new_server(): a cluster of one server without data, for a test that ends it."""
    made = []

    def make():
        made.append(Cluster(scale=0))
        made[-1].start_server("--threads", "2", "--memory-limit", "512MiB")
        return made[-1]

    yield make
    for one in made:
        one.remove()
