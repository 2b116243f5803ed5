#!/usr/bin/env python3
"""SQL over HTTPS with nothing but Python's own library: three tables made, filled and read.

    examples/http_sql.py --url https://localhost:8765 --tls-roots merganser-data/tls/ca.crt \\
                         --username scott --password tiger

Prints the JSON answer of each request on a line of its own. The tables are dropped first when they
are there, so it may run again. Any node of the cluster takes any of these requests; several --url
are used in turn.
"""
import argparse
import base64
import itertools
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
import uuid

CREATES = [
    "CREATE TABLE demo_city (id INTEGER PRIMARY KEY, name VARCHAR, country VARCHAR)",
    "CREATE TABLE demo_station (id INTEGER PRIMARY KEY, city_id INTEGER, height DOUBLE)",
    "CREATE TABLE demo_reading (station_id INTEGER, day DATE, celsius DECIMAL(4, 1)) PARTITIONED BY (station_id)",
]
INSERTS = [
    ("INSERT INTO demo_city VALUES (?, ?, ?), (?, ?, ?), (?, ?, ?)",
     [1, "Bern", "CH", 2, "Oslo", "NO", 3, "Quito", "EC"]),
    ("INSERT INTO demo_station VALUES (10, 1, 542.5), (20, 2, 23), (30, 3, 2850)", []),
    ("INSERT INTO demo_reading VALUES (10, $day, 1.5), (20, $day, -4.0), (30, $day, 14.2)", {"day": "2026-11-28"}),
]
SELECTS = [
    ("SELECT name, country FROM demo_city ORDER BY name", []),
    ("SELECT id, height FROM demo_station ORDER BY height DESC", []),
    ("""SELECT c.name, r.day, r.celsius FROM demo_reading r JOIN demo_station s ON r.station_id = s.id
        JOIN demo_city c ON s.city_id = c.id WHERE r.celsius > ? ORDER BY c.name""", [-10]),
]


class Cluster:
    """The nodes in turn; one login."""

    def __init__(self, urls, username, password, tls_roots):
        self.urls = itertools.cycle(url.rstrip("/") for url in urls)
        self.tls = ssl.create_default_context(cafile=tls_roots)
        login = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}

    def post(self, path, document, headers=()):
        request = urllib.request.Request(next(self.urls) + path, json.dumps(document).encode(),
                                         {**self.headers, **dict(headers)}, method="POST")
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as failed:
            error = json.load(failed)["error"]
            sys.exit(f"error {error['sqlstate']}: {error['message']}\n{error['hint']}".rstrip())
        except OSError as failed:
            sys.exit(f"cannot reach {request.full_url}: {failed}")

    def execute(self, sql, params=()):
        """With a key of its own, so that this very request could be sent again without harm."""
        return self.post("/db/execute", {"sql": sql, "params": params or []}, {"Idempotency-Key": str(uuid.uuid4())})

    def query(self, sql, params=()):
        return self.post("/db/query", {"sql": sql, "params": params or []})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", action="append", help="default https://localhost:8765")
    parser.add_argument("--username", default="scott")
    parser.add_argument("--password", default=os.environ.get("MERGANSER_PASSWORD"), help="or MERGANSER_PASSWORD")
    parser.add_argument("--tls-roots", default="merganser-data/tls/ca.crt")
    options = parser.parse_args()

    if options.password is None:
        parser.error("a password is needed: --password, or MERGANSER_PASSWORD in the environment")
    cluster = Cluster(options.url or ["https://localhost:8765"], options.username, options.password, options.tls_roots)
    for sql in CREATES:
        cluster.execute("DROP TABLE IF EXISTS " + sql.split()[2])
    for sql in CREATES:
        print(json.dumps(cluster.execute(sql)))
    for sql, params in INSERTS:
        print(json.dumps(cluster.execute(sql, params)))
    for sql, params in SELECTS:
        print(json.dumps(cluster.query(sql, params)))


if __name__ == "__main__":
    main()
