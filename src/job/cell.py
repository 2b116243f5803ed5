"""A process that runs a job's Python: batches in, one value out.

It serves frames of its socket, one after the other, and answers each: (kind, size) and a payload. What it is sent and what it says
is checked at the other end: the user's code can write to the socket, too. Values are pickles, which only processes like this open.
"""
import collections
import inspect
import io
import json
import linecache
import math
import os
import pickle
import struct
import sys
import traceback
import types

import confine

HEAD = struct.Struct("=IQ")
LOAD, CHUNK, MERGE, TAKE, FINISH = range(1, 6)                  # asked
READY, DONE, VALUE, RESULT, FAILED, PRINTED = range(101, 107)  # answered
USERS_FILE = "<job>"
MODULE_NAMES = {"map": "mapper", "reduce": "reducer", "finish": "finalizer"}
SETTINGS = ("source", "key", "chunk_size", "streaming")
PRINTED_MAX = 1 << 16
ENDED_IN_ITSELF = 70


class Mistake(Exception):
    """Of the file: it does not keep the contract."""


# ---- what a mapper is given ----

class Batch:
    """Rows of the source: columns as numpy arrays by name, batch["x"], batch.x or batch("x"); batch[mask or slice] is a smaller one."""

    def __init__(self, arrow, meta):
        self.arrow, self.meta, self._columns = arrow, meta, {}

    @property
    def size(self):
        return self.arrow.num_rows

    @property
    def names(self):
        return self.arrow.schema.names

    @property
    def pandas(self):
        return self.arrow.to_pandas()

    def __len__(self):
        return self.arrow.num_rows

    def column(self, name):
        if name not in self._columns:
            at = self.arrow.schema.get_field_index(name)
            if self.names.count(name) > 1:
                raise KeyError(f"several columns are called {name!r}: give them names of their own, with AS")
            if at < 0:
                raise KeyError(f"there is no column {name!r}; there are {', '.join(self.names)}")
            self._columns[name] = self.arrow.column(at).to_numpy(zero_copy_only=False)
        return self._columns[name]

    def __call__(self, name):
        return self.column(name)

    def __getattr__(self, name):
        if name.startswith("_") or name in ("arrow", "meta"):
            raise AttributeError(name)
        try:
            return self.column(name)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __getitem__(self, what):
        import numpy
        import pyarrow
        if isinstance(what, str):
            return self.column(what)
        if isinstance(what, slice):
            start, stop, step = what.indices(self.size)
            if step == 1:
                return Batch(self.arrow.slice(start, max(0, stop - start)), self.meta)
            what = numpy.arange(start, stop, step)
        what = numpy.asarray(what)
        what = what.astype(int) if what.size == 0 else what
        if what.dtype == bool:
            if len(what) != self.size:
                raise IndexError(f"a mask of {len(what)} for {self.size} rows")
            return Batch(self.arrow.filter(pyarrow.array(what)), self.meta)
        return Batch(self.arrow.take(pyarrow.array(what)), self.meta)


# ---- a user's file ----

class Held(dict):
    """The names of a module while its text runs: some are held, so that what is made of them is, too."""

    def __init__(self, names, held):
        super().__init__()
        self.names, self.held = names, held

    def __setitem__(self, name, value):
        if name not in self.held:
            self.names[name] = value

    def __getitem__(self, name):
        return self.names[name]

    def __delitem__(self, name):
        del self.names[name]


class Shared(types.SimpleNamespace):
    """The values that came with the job, as attributes and by name."""

    def __getitem__(self, name):
        return getattr(self, name)


class File:
    """What a user's file says: functions of the module, or of a class under @mg.job."""

    def __init__(self, text, values):
        self.values = values
        self.of_class = None
        self.module = self.run(text)
        self.functions = self.find()
        if not callable(self.functions.get("map")):
            raise Mistake("the file has no mapper: define mapper(batch), or a class under @mg.job with map(self, batch)")

    def run(self, text):
        mg = types.ModuleType("merganser")
        mg.job = self.decorate
        sys.modules["merganser"] = mg
        linecache.cache[USERS_FILE] = (len(text), None, text.splitlines(True), USERS_FILE)
        module = types.ModuleType("__job__")
        sys.modules["__job__"] = module
        shared = Shared(**self.values)
        module.__dict__.update(self.values, shared=shared, __file__=USERS_FILE)
        exec(compile(text, USERS_FILE, "exec"), module.__dict__, Held(module.__dict__, self.values))
        return module

    def decorate(self, source=None, key=None, chunk_size=None, streaming=False):
        def keep(cls):
            if self.of_class:
                raise Mistake("two classes are under @mg.job")
            self.of_class = (cls, {"source": source, "key": key, "chunk_size": chunk_size, "streaming": streaming})
            return cls
        return keep

    def find(self):
        if not self.of_class:
            return {ours: getattr(self.module, theirs, None) for ours, theirs in MODULE_NAMES.items()}
        cls = self.of_class[0]
        one = cls()
        if hasattr(one, "setup"):
            one.setup(Shared(**self.values))
        return {name: getattr(one, name, None) for name in ("map", "reduce", "finish")}

    def settings(self):
        """What the server must know of it."""
        own = self.of_class[1] if self.of_class else {name: getattr(self.module, name, None) for name in SETTINGS}
        source, chunk = own["source"], own["chunk_size"]
        if not isinstance(source, str) or not source.strip():
            raise Mistake("the file does not say its source: source = \"a table, or a SELECT\"")
        if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise Mistake(f"chunk_size is a number of rows, not {chunk!r}")
        return {"source": source, "key": own["key"], "chunk_size": chunk or 0, "streaming": bool(own["streaming"]),
                "reduces": callable(self.functions["reduce"])}


# ---- values ----

class Values:
    """What the chunks gave so far: one value by the reducer, or values by key, or a list when there is no reducer."""

    def __init__(self, file):
        self.reduce = file.functions["reduce"]
        self.finish = file.functions["finish"]
        self.empty, self.value = True, None

    def pair(self, a, b):
        if self.reduce is None:
            return a + b
        if isinstance(a, Keyed):
            for key, value in b.items():
                a[key] = self.reduce(a[key], value) if key in a else value
            return a
        return self.reduce(a, b)

    def of_chunk(self, value):
        if inspect.isgenerator(value):
            keyed = Keyed()
            for pair in value:
                if not isinstance(pair, tuple) or len(pair) != 2:
                    raise Mistake(f"the mapper yields (key, value), not {type(pair).__name__}")
                key, one = pair
                if self.reduce is None:
                    keyed.setdefault(key, []).append(one)
                else:
                    keyed[key] = self.reduce(keyed[key], one) if key in keyed else one
            return keyed if self.reduce is not None else [keyed]
        return value if self.reduce is not None else [value]

    def add(self, value):
        self.value = value if self.empty else self.pair(self.value, value)
        self.empty = False

    def result(self):
        value = self.value if not self.empty else None if self.reduce is not None else []
        if self.finish is not None and not self.empty:
            return self.finish(value)
        return dict(value) if isinstance(value, Keyed) else value


class Keyed(dict):
    """What a mapper yielded as (key, value)."""


# ---- results as JSON ----

def plain(value):
    """A value as JSON has it: numpy's, Arrow's and pandas' as lists; NaN and infinities as texts, as answers of SQL have them."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return good(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {good(key) if isinstance(key, str) else str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return plain_set(value)
    if isinstance(value, (bytes, bytearray)):
        import base64
        return base64.b64encode(value).decode()
    for name in ("tolist", "to_pylist", "as_py"):  # numpy; Arrow's arrays, and its scalars
        simple = getattr(value, name)() if hasattr(value, name) else value
        if simple is not value and type(simple) is not type(value):
            return plain(simple)
    if hasattr(value, "to_dict"):  # pandas
        return plain(value.to_dict("list") if type(value).__name__ == "DataFrame" else value.to_dict())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return good(str(value))


def plain_set(value):
    try:
        return [plain(one) for one in sorted(value)]
    except TypeError:
        return sorted((plain(one) for one in value), key=repr)


# ---- the socket ----

class Printed(io.TextIOBase):
    """What the user's code prints; the end is what is kept."""

    def __init__(self):
        self.text = collections.deque()
        self.size = 0

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"a text is written here, not {type(text).__name__}")
        self.text.append(text)
        self.size += len(text)
        while self.size > PRINTED_MAX and len(self.text) > 1:
            self.size -= len(self.text.popleft())
        return len(text)

    def take(self):
        text = "".join(self.text)[-PRINTED_MAX:]
        self.text.clear()
        self.size = 0
        return text


def read_exactly(fd, size):
    data = bytearray(size)  # or MemoryError, and nothing has been read
    view, got = memoryview(data), 0
    while got < size:
        count = os.readv(fd, [view[got:]])
        if count == 0:
            raise EOFError
        got += count
    return data


def discard(fd, size):
    while size:
        size -= len(os.read(fd, min(size, 1 << 16)) or b"?" * size)


def write_all(fd, *parts):
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view):]


def send(fd, kind, payload=b""):
    write_all(fd, HEAD.pack(kind, len(payload)), payload)


def good(text):
    """Without halves of surrogate pairs, which no encoding has."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def users_frames(error):
    """The traceback without what is ours, and the user's last line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == USERS_FILE]
    first = next((i for i, frame in enumerate(frames) if frame.filename == USERS_FILE), len(frames))
    kept = frames[first:]
    line = own[-1].lineno if own else error.lineno if isinstance(error, SyntaxError) else 0
    head = ["Traceback (most recent call last):\n", *traceback.format_list(kept)] if kept else []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = [*traceback.format_exception_only(type(cause), cause), "\nand because of that, or while it was handled:\n\n"] if cause else []
    return "".join(before + head + traceback.format_exception_only(type(error), error)), line


def failure(error):
    try:
        text, line = users_frames(error)
        message = str(error)
    except BaseException:  # its own __str__ is the user's
        text, line, message = "", 0, "it cannot be told"
    said = {"type": type(error).__name__, "message": good(message[:4096]), "traceback": good(text[-16384:]), "line": line or 0,
            "mistake": isinstance(error, Mistake)}
    return json.dumps(said, ensure_ascii=False).encode()


class Cell:
    def __init__(self, fd):
        self.fd, self.meta = fd, {}
        self.file = self.values = None
        self.rows_max = 0  # of what a mapper is given at once; 0: what has come
        self.printed = sys.stdout = sys.stderr = Printed()

    def load(self, payload):
        asked = json.loads(bytes(payload))
        self.meta = asked["meta"]
        self.file = File(asked["code"], asked["values"])
        self.values = Values(self.file)
        settings = self.file.settings()
        self.rows_max = settings["chunk_size"]
        return READY, json.dumps(settings).encode()

    def chunk(self, payload):
        import pyarrow
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(payload)) as reader:
            for arrow in reader:
                step = self.rows_max or arrow.num_rows
                for start in range(0, arrow.num_rows, step or 1):
                    self.map(arrow.slice(start, step))
        return DONE, b""

    def map(self, arrow):
        self.values.add(self.values.of_chunk(self.file.functions["map"](Batch(arrow, self.meta))))

    def merge(self, payload):
        self.values.add(pickle.loads(payload))
        return DONE, b""

    def take(self, _):
        return VALUE, b"" if self.values.empty else pickle.dumps(self.values.value, protocol=5)

    def finish(self, _):
        return RESULT, json.dumps(plain(self.values.result())).encode()

    def answer(self, kind, payload):
        try:
            return {LOAD: self.load, CHUNK: self.chunk, MERGE: self.merge, TAKE: self.take, FINISH: self.finish}[kind](payload)
        except BaseException as error:  # SystemExit is the user's, too
            return FAILED, failure(error)

    def serve(self):
        while True:
            kind, size = HEAD.unpack(read_exactly(self.fd, HEAD.size))
            try:
                payload = read_exactly(self.fd, size)
            except MemoryError as error:
                self.file = self.values = None
                answer = FAILED, failure(error)
                discard(self.fd, size)
            else:
                answer = self.answer(kind, payload)
            text = self.printed.take()
            if text:
                send(self.fd, PRINTED, text.encode(errors="replace"))
            send(self.fd, *answer)


def run(fd, log, limits, parent):
    """In a fresh process; does not return, unless it cannot be confined, and then says why in the server's log."""
    try:
        confine.confine(limits["memory_bytes"], limits["cpu_s"], parent)
    except BaseException as error:
        os.write(log, f"a job's process cannot be confined: {type(error).__name__}: {error}\n".encode())
        raise
    os.close(log)
    try:
        Cell(fd).serve()
    except EOFError:
        os._exit(0)
    finally:
        os._exit(ENDED_IN_ITSELF)


