"""Merganser from Python: DB-API 2.0 (PEP 249), Arrow and pandas results, keys and values.

    import merganser

    con = merganser.connect("https://localhost:8765", username="scott", password="tiger", tls_roots="ca.crt")
    con.execute("SELECT n_name FROM nation WHERE n_regionkey = ?", [3]).fetchall()
    con.sql("SELECT * FROM lineitem").df()
    con.kv("settings").put("theme", "dark")
"""
from __future__ import annotations

import os
from typing import Optional, Union

from .connection import Connection
from .cursor import Cursor
from .errors import (ConditionFailed, DatabaseError, DataError, Error, IntegrityError, InterfaceError, InternalError, NotSupportedError,
                     OperationalError, ProgrammingError, QueryCanceled, SerializationFailure, UnknownOutcome, Warning)
from .options import resolve
from .query import Query
from .sqltypes import (BINARY, DATETIME, NUMBER, ROWID, STRING, Binary, Date, DateFromTicks, Time, TimeFromTicks, Timestamp,
                       TimestampFromTicks)

apilevel = "2.0"
threadsafety = 2  # threads may share the module and connections
paramstyle = "qmark"
__version__ = "0.1.0"

Path = Union[str, "os.PathLike[str]"]


def connect(url: Optional[str] = None, username: Optional[str] = None, password: Optional[str] = None, *, tls_roots: Optional[Path] = None,
            tls_cert: Optional[Path] = None, tls_key: Optional[Path] = None, tls_key_password: Optional[str] = None,
            insecure_skip_verify: Optional[bool] = None, connect_timeout: Union[float, str, None] = None,
            timeout: Union[float, str, None] = None, autocommit: bool = True, idempotent: bool = True,
            arrow: Optional[bool] = None) -> Connection:
    """A connection to a cluster.

    What is not given comes from the environment (MERGANSER_URL, MERGANSER_USERNAME, MERGANSER_PASSWORD, MERGANSER_PASSWORD_FILE,
    MERGANSER_TLS_ROOTS, MERGANSER_TLS_CERT, MERGANSER_TLS_KEY, MERGANSER_TLS_KEY_PASSWORD, MERGANSER_INSECURE_SKIP_VERIFY,
    MERGANSER_CONNECT_TIMEOUT, MERGANSER_TIMEOUT), then, for servers of this machine, from the data directory of
    MERGANSER_DATA_DIR or ./merganser-data; the url at last is https://localhost:8765.

    url: a server, or several with commas between: the next one is tried when one is down.
    tls_roots: the CA that has signed the servers, tls/ca.crt of a data directory. tls_cert, tls_key: log in by certificate.
    connect_timeout: seconds for each server (10). timeout: seconds for each statement, None: no limit; also as "500ms", "1m".
    autocommit: False: statements begin a transaction that commit() ends (Connection).
    idempotent: writes carry a key, so that they are sent again, and done once, when a connection is lost; without, cancel() and
    Ctrl-C end them at the server.
    arrow: None: answers are Arrow when pyarrow can be imported. False: never.

    Raises OperationalError when no server can be reached or the login is refused, InterfaceError for options that make no sense.
    """
    options = resolve(url, username, password, tls_roots, tls_cert, tls_key, tls_key_password, insecure_skip_verify, connect_timeout,
                      timeout)
    connection = Connection(options, autocommit, idempotent, _has_pyarrow() if arrow is None else arrow)
    try:
        connection._log_in()
    except BaseException:
        connection.close()
        raise
    return connection


def _has_pyarrow() -> bool:
    try:
        import pyarrow.ipc  # noqa: F401
    except ImportError:
        return False
    return True


__all__ = [
    "apilevel", "threadsafety", "paramstyle", "connect", "Connection", "Cursor", "Query", "Warning", "Error", "InterfaceError",
    "DatabaseError", "DataError", "OperationalError", "IntegrityError", "InternalError", "ProgrammingError", "NotSupportedError",
    "SerializationFailure", "UnknownOutcome", "QueryCanceled", "ConditionFailed", "STRING", "BINARY", "NUMBER", "DATETIME", "ROWID",
    "Binary", "Date", "DateFromTicks", "Time", "TimeFromTicks", "Timestamp", "TimestampFromTicks",
]
