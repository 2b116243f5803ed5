"""A client of one thread: statements and keys over HTTP, commands of Redis, to a server of its choice, and what is known of their outcome.

Rule: "fail" is said only of what certainly has not happened: the server says so, or no byte of the request was sent.
All else that is no answer is "unknown".
"""
import base64
import http.client
import json
import re
import socket
import ssl
import time
import urllib.parse

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


def key_outcome(method, status, headers, body):
    """Likewise of a request for a key (docs/kv.md). That it is not there, or that a condition does not hold, is an answer."""
    tag = (headers.get("ETag") or "").strip('"')
    if status == 200 and method == "GET":
        return Outcome(OK, {"done": True, "found": True, "version": int(tag), "value_found": body.decode(errors="backslashreplace")})
    if status == 200:
        return Outcome(OK, {"done": True, "version": int(tag)})
    if status == 204:
        return Outcome(OK, {"done": True, "found": True})
    try:
        error = json.loads(body)["error"]
        if status == 404 and error["code"] == "not_found":
            return Outcome(OK, {"done": True, "found": False})
        if status == 412 and error["code"] == "conflict":
            told = re.search(r'version is "(\d+)', error["message"])
            return Outcome(OK, {"done": False, "version": int(told[1]) if told else 0})
    except (ValueError, KeyError, TypeError):
        pass
    return outcome_of(status, body)


def batch_outcome(parts, status, body):
    """Likewise of a batch: what is told of each of its parts (linear/keys.go)."""
    try:
        told = json.loads(body)
        if status == 200:
            return Outcome(OK, {"done": True, "parts": [part_answer(part["do"], result) for part, result
                                                        in zip(parts, told["results"], strict=True)]})
        refused = re.match(r"operation (\d+), .*: (?:it is there, with version (\d+)|there is no such key)$", told["error"]["message"])
        if status == 412 and refused:
            answers = [{} for _ in parts]
            answers[int(refused[1])] = {"version": int(refused[2] or 0)}
            return Outcome(OK, {"done": False, "parts": answers})
    except (ValueError, KeyError, TypeError):
        pass
    return outcome_of(status, body)


def part_answer(do, result):
    if do == "delete":
        return {"found": result["deleted"]}
    if do == "add":
        return {"version": result["version"], "value_found": str(result["number"])}
    if do == "get":
        found = result["version"] != 0
        return {"found": found, **({"version": result["version"], "value_found": result["value"]} if found else {})}
    return {"version": result["version"]}


def command_outcome(line):
    """What a Redis client hears of a command whose answer is an integer (docs/kv.md): nothing has happened where the first word says so."""
    if line[:1] == ":":
        return Outcome(OK, {"done": True, "value_found": line[1:]})
    refused = line.split(maxsplit=1)[0] in ("-CLUSTERDOWN", "-TRYAGAIN", "-OOM", "-MISCONF") if line else False
    return Outcome(FAIL if refused else UNKNOWN, error=line)


class Redis:
    """A connection as Redis clients make it. What fails is an OSError; in the constructor nothing has been asked yet."""

    def __init__(self, address, context, login, timeout):
        self.socket = context.wrap_socket(socket.create_connection(address, timeout=timeout), server_hostname=address[0])
        self.file = self.socket.makefile("rb")
        answer = self.ask("AUTH", *login)
        if answer != "+OK":
            self.close()
            raise OSError(answer)

    def ask(self, *words):
        """The line that answers."""
        words = [word.encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise OSError("the connection was closed")
        return line.decode().strip()

    def close(self):
        self.file.close()
        self.socket.close()


class Client:
    """Connections to all servers, each made when it is needed and kept. One thread."""

    def __init__(self, addresses, ca, login, timeout=5):
        """addresses: {name: (host, port)}."""
        self.addresses, self.timeout = addresses, timeout
        self.context = ssl.create_default_context(cafile=ca)
        self.user = login
        self.login = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self.open, self.redis = {}, {}

    def close(self, name=None):
        for connections in (self.open, self.redis):
            for each in [name] if name else list(connections):
                connection = connections.pop(each, None)
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

    def exchange(self, name, method, path, body, headers, timeout=None):
        """(status, headers, body) of the answer, or an Outcome that says why there is none."""
        try:
            connection = self.connection(name, timeout or self.timeout)
        except OSError as error:
            self.close(name)
            return Outcome(FAIL, error=f"not connected: {error}")
        try:
            connection.request(method, path, body, {"Authorization": self.login, **headers})
            answer = connection.getresponse()
            text = answer.read()
            if answer.will_close:
                self.close(name)
            return answer.status, answer.headers, text
        except (OSError, http.client.HTTPException) as error:
            self.close(name)
            return Outcome(UNKNOWN, error=f"no answer: {type(error).__name__} {error}")

    def request(self, name, method, path, body=None, headers=(), timeout=None):
        answer = self.exchange(name, method, path, None if body is None else json.dumps(body).encode(),
                               {"Content-Type": "application/json", **dict(headers)}, timeout)
        return answer if isinstance(answer, Outcome) else outcome_of(answer[0], answer[2])

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

    def key(self, name, method, space, key, value=None, headers=(), **options):
        """One key over HTTP: done, found, version, value as far as the answer tells them (key_outcome)."""
        path = f"/kv/{space}/{urllib.parse.quote(key)}" + ("?" + urllib.parse.urlencode(options) if options else "")
        answer = self.exchange(name, method, path, value, {"Content-Type": "text/plain", **dict(headers)})
        found = answer if isinstance(answer, Outcome) else key_outcome(method, *answer)
        if found.kind == UNKNOWN and method == "GET":
            found.kind = FAIL
        return found

    def batch(self, name, space, parts, key=None):
        """Parts as linear/keys.go describes them, all or none."""
        ops = []
        for part in parts:
            condition = {"version": {"if_version": part.get("expect")}, "absent": {"if_absent": True},
                         "present": {"if_present": True}}.get(part.get("if"), {})
            value = {"put": {"value": part.get("value")}, "add": {"by": int(part.get("value", 0))}}.get(part["do"], {})
            ops.append({"op": part["do"], "key": part["key"], **value, **condition})
        answer = self.exchange(name, "POST", f"/kv/{space}/batch", json.dumps({"ops": ops}).encode(),
                               {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})})
        return answer if isinstance(answer, Outcome) else batch_outcome(parts, answer[0], answer[2])

    def scan(self, name, space, consistency="linearizable", timeout=None):
        """All keys of a namespace as [key, version, value], in an Outcome."""
        rows, cursor = [], ""
        while cursor is not None:
            found = self.request(name, "GET", f"/kv/{space}?limit=10000&values=base64&consistency={consistency}&cursor={cursor}",
                                 timeout=timeout)
            if not found:
                return Outcome(FAIL, error=found.error)
            rows += [[one["key"], one["version"], base64.b64decode(one["value"]).decode()] for one in found.value["keys"]]
            cursor = found.value["cursor"]
        return Outcome(OK, rows)

    def command(self, name, space, *words):
        """One command of Redis whose answer is an integer."""
        try:
            connection = self.redis.get(name) or Redis(self.addresses[name], self.context, self.user, self.timeout)
            self.redis[name] = connection
            answer = connection.ask("SELECT", space)
            if answer != "+OK":
                raise OSError(answer)
        except OSError as error:
            self.close(name)
            return Outcome(FAIL, error=f"not connected: {error}")
        try:
            answer = connection.ask(*words)
        except OSError as error:
            self.close(name)
            return Outcome(UNKNOWN, error=f"no answer: {type(error).__name__} {error}")
        return command_outcome(answer)

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
