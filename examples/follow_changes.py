#!/usr/bin/env python3
"""Keeps a copy of a table as a file of JSON, from its change feed, with nothing but Python's own library.

    examples/follow_changes.py --url https://localhost:8765 --tls-roots merganser-data/tls/ca.crt \\
                               --username scott --password tiger --table demo_reading --file reading.json

The file holds the rows and the token of the place that they are as of. Started again it goes on from there, at any of the --url;
when a server goes away, at the next one; when the changes are not kept any more, with a new snapshot. --once: until it is caught up.
"""
import argparse
import base64
import http.client
import itertools
import json
import os
import ssl
import sys
import time
import urllib.parse


class Copy:
    """Rows by their rid, and the token behind them."""

    def __init__(self, path):
        self.path, self.rows, self.token = path, {}, "start"
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                kept = json.load(file)
            self.rows, self.token = kept["rows"], kept["token"]
        self.coming, self.saved = [], os.path.exists(path)

    def begin_again(self):
        self.rows, self.token, self.coming = {}, "start", []
        self.saved = False

    def apply(self, event):
        """Changes count when the token behind them has come: so none counts twice."""
        if event["op"] in ("read", "insert", "update", "delete"):
            self.coming.append(event)
        elif event["op"] == "resolved":
            for one in self.coming:
                if one["op"] == "delete":
                    self.rows.pop(one["rid"], None)
                else:
                    self.rows[one["rid"]] = one["row"]
            changed, self.coming, self.token = bool(self.coming), [], event["token"]
            if changed or not self.saved:
                self.save()

    def save(self):
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump({"token": self.token, "rows": self.rows}, file)
        os.replace(self.path + ".new", self.path)
        self.saved = True


def follow(url, tls, login, table, copy, once):
    """One request. Returns why it ended: "done", "gone", "dropped"; raises OSError when the server did."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=tls, timeout=60)
    parameters = urllib.parse.urlencode({"from": copy.token, "follow": "false" if once else "true"})
    connection.request("GET", f"/changes/{urllib.parse.quote(table)}?{parameters}", headers={"Authorization": f"Basic {login}"})
    answer = connection.getresponse()
    if answer.status == 410:
        return "gone"
    if answer.status >= 500:
        raise OSError(answer.read().decode(errors="replace"))
    if answer.status != 200:
        sys.exit(json.load(answer)["error"]["message"])
    for line in answer:
        event = json.loads(line)
        if event["op"] == "error":
            if event["error"]["sqlstate"] == "55000":
                return "gone"
            raise OSError(event["error"]["message"])
        if event["op"] == "end":
            return "gone" if event["reason"] == "replaced" else "dropped"
        copy.apply(event)
    return "done"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", action="append", required=True)
    parser.add_argument("--tls-roots", required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--password", default=os.environ.get("MERGANSER_PASSWORD", ""))
    parser.add_argument("--table", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    tls = ssl.create_default_context(cafile=options.tls_roots)
    login = base64.b64encode(f"{options.username}:{options.password}".encode()).decode()
    copy = Copy(options.file)
    for tries, url in enumerate(itertools.cycle(options.url)):
        copy.coming = []
        try:
            why = follow(url, tls, login, options.table, copy, options.once)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as lost:
            print(f"{url}: {lost}", file=sys.stderr)
            if options.once and tries >= 2 * len(options.url):
                sys.exit(2)
            time.sleep(0.5)
            continue
        if why == "gone":
            copy.begin_again()
            continue
        if why == "dropped" or options.once:
            print(f"{len(copy.rows)} rows as of {copy.token}" + (", and the table is gone" if why == "dropped" else ""))
            return


if __name__ == "__main__":
    main()
