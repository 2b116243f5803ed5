"""A client of one thread: statements over HTTP to a server of its choice, and what is known of their outcome.

Rule: "fail" is said only of what certainly has not happened: the server says so, or no byte of the request was sent.
All else that is no answer is "unknown".
"""
import base64
import http.client
import json
import ssl
import time

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"


class Outcome:
    def __init__(self, kind, value=None, error=""):
        self.kind, self.value, self.error = kind, value, error

    def __bool__(self):
        return self.kind == OK

    def rows(self):
        return self.value["values"]

    def affected(self):
        return self.value["rows_affected"]


def outcome_of(status, body):
    """What an answer says of the outcome (docs/http.md, Errors)."""
    try:
        told = json.loads(body)
    except ValueError:
        return Outcome(UNKNOWN, error=f"{status}, no JSON: {body[:200]!r}")
    if status == 200:
        return Outcome(OK, told.get("result", told))
    error = told.get("error", {})
    text = f"{status} {error.get('sqlstate', '')} {error.get('message', '')}"
    unknown = error.get("sqlstate") == "40003" or error.get("retry") == "maybe" or not error
    return Outcome(UNKNOWN if unknown else FAIL, error=text)


class Client:
    """Connections to all servers, each made when it is needed and kept. One thread."""

    def __init__(self, addresses, ca, login, timeout=5):
        """addresses: {name: (host, port)}."""
        self.addresses, self.timeout = addresses, timeout
        self.context = ssl.create_default_context(cafile=ca)
        self.login = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self.open = {}

    def close(self, name=None):
        for each in [name] if name else list(self.open):
            connection = self.open.pop(each, None)
            if connection:
                connection.close()

    def connection(self, name, timeout):
        found = self.open.get(name)
        if not found:
            host, port = self.addresses[name]
            found = http.client.HTTPSConnection(host, port, timeout=timeout, context=self.context)
            found.connect()
            self.open[name] = found
        found.sock.settimeout(timeout)
        return found

    def request(self, name, method, path, body=None, headers=(), timeout=None):
        try:
            connection = self.connection(name, timeout or self.timeout)
        except OSError as error:
            self.close(name)
            return Outcome(FAIL, error=f"not connected: {error}")
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(),
                               {"Authorization": self.login, "Content-Type": "application/json", **dict(headers)})
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
            if answer.will_close:
                self.close(name)
            return outcome_of(status, text)
        except (OSError, http.client.HTTPException) as error:
            self.close(name)
            return Outcome(UNKNOWN, error=f"no answer: {type(error).__name__} {error}")

    def execute(self, name, sql, *params, key=None, tx=None, limit_ms=None):
        """limit_ms: the server's own time limit; who is told that it has passed knows that nothing was done."""
        path = "/db/execute" + (f"?tx={tx}" if tx else f"?timeout={limit_ms}ms" if limit_ms else "")
        return self.request(name, "POST", path, {"sql": sql, "params": list(params)}, [("Idempotency-Key", key)] if key else ())

    def together(self, name, statements):
        """A list of (sql, params) as one transaction."""
        return self.request(name, "POST", "/db/execute", {
            "statements": [{"sql": sql, "params": list(params)} for sql, params in statements], "transaction": True})

    def query(self, name, sql, *params, tx=None, consistency=None, max_staleness=None, timeout=None):
        """max_staleness: in seconds, of consistency "bounded"."""
        options = [f"tx={tx}"] if tx else []
        options += [f"consistency={consistency}"] if consistency else []
        options += [f"max_staleness={max_staleness}s"] if max_staleness else []
        path = "/db/query" + ("?" + "&".join(options) if options else "")
        found = self.request(name, "POST", path, {"sql": sql, "params": list(params)}, timeout=timeout)
        if found.kind == UNKNOWN:  # what reads leaves nothing behind
            found.kind = FAIL
        return found

    def begin(self, name):
        """The id of a new transaction at that server, or an Outcome that says why there is none."""
        found = self.request(name, "POST", "/db/tx", {})
        return found.value["id"] if found else found

    def commit(self, name, tx):
        return self.request(name, "POST", f"/db/tx/{tx}/commit")

    def rollback(self, name, tx):
        return self.request(name, "POST", f"/db/tx/{tx}/rollback")


class History:
    """What was done, in the order of ends: one dictionary for each operation."""

    def __init__(self):
        self.operations = []  # list.append is atomic

    def add(self, client, node, op, begin, outcome, **what):
        self.operations.append({"client": client, "node": node, "op": op, **what, "begin": begin, "end": time.monotonic_ns(),
                                "outcome": outcome.kind, **({"error": outcome.error} if outcome.error else {})})

    def count(self):
        kinds = [operation["outcome"] for operation in self.operations]
        return kinds.count(OK), kinds.count(FAIL), kinds.count(UNKNOWN)

    def save(self, path):
        with open(path, "w", encoding="utf-8") as file:
            for operation in self.operations:
                file.write(json.dumps(operation) + "\n")

    @staticmethod
    def load(path):
        history = History()
        with open(path, encoding="utf-8") as file:
            history.operations = [json.loads(line) for line in file if line.strip()]
        return history
