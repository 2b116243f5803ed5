"""Exceptions of PEP 249, chosen by the sqlstate of what the server says."""
from __future__ import annotations

import json
from typing import Any, Optional


class Warning(Exception):  # noqa: A001  (the name is PEP 249's)
    """Of PEP 249; never raised: what the server notes is no exception."""


class Error(Exception):
    """The base of all errors of this package.

    sqlstate: five characters; detail, hint: more for people, or ""; code: the server's own word for
    the kind of error; retry: "never", "safe" (nothing was done) or "maybe" (nobody knows); index: which
    statement of a list failed; status: of HTTP. What is not known is "" or None.
    """

    def __init__(self, message: str, *, sqlstate: str = "", detail: str = "", hint: str = "", code: str = "",
                 retry: str = "never", index: Optional[int] = None, status: Optional[int] = None) -> None:
        super().__init__(message)
        self.message, self.sqlstate, self.detail, self.hint, self.code = message, sqlstate, detail, hint, code
        self.retry, self.index, self.status = retry, index, status

    def __str__(self) -> str:
        lines = [f"{self.message} ({self.sqlstate})" if self.sqlstate else self.message]
        lines += [f"{name}: {text}" for name, text in (("detail", self.detail), ("hint", self.hint)) if text]
        return "\n".join(lines)


class InterfaceError(Error):
    """This package was used wrongly: a closed cursor, an option that makes no sense."""


class DatabaseError(Error):
    """The base of what the server answers."""


class DataError(DatabaseError):
    """A value is out of range, cannot be cast (22...)."""


class OperationalError(DatabaseError):
    """The connection, a login, a resource, a limit; not the statement's text."""


class IntegrityError(DatabaseError):
    """A constraint is violated (23...)."""


class InternalError(DatabaseError):
    """Of the server itself, or a transaction in a state that does not fit (25..., XX...)."""


class ProgrammingError(DatabaseError):
    """Syntax, a table that is not there, a right that is missing (42...)."""


class NotSupportedError(DatabaseError):
    """The server does not do this (0A...)."""


class SerializationFailure(OperationalError):
    """Another transaction changed the same rows first (40001): run the whole transaction again."""


class UnknownOutcome(OperationalError):
    """Nobody knows whether a write has happened (40003), also when its answer was lost on the way.

    idempotency_key: the key that was sent with it, or None: the same statement with the same
    idempotency_key is done once, whatever happened to the first.
    """

    idempotency_key: Optional[str] = None


class QueryCanceled(OperationalError):
    """The statement was cancelled, or ran longer than its time limit (57014)."""


class ConditionFailed(IntegrityError):
    """A key does not have the version, or the presence, that a write of it asked for."""


BY_STATE = {"40001": SerializationFailure, "40003": UnknownOutcome, "57014": QueryCanceled,
            "22023": ProgrammingError}  # the server says it of a request or statement that makes no sense, not of values
BY_CLASS = {
    "0A": NotSupportedError, "21": DataError, "22": DataError, "23": IntegrityError, "25": InternalError,
    "2B": InternalError, "2D": InternalError, "34": ProgrammingError, "3D": ProgrammingError, "3F": ProgrammingError,
    "42": ProgrammingError, "XX": InternalError,
}


def class_of(sqlstate: str) -> type[DatabaseError]:
    """The exception for a sqlstate."""
    return BY_STATE.get(sqlstate) or BY_CLASS.get(sqlstate[:2], OperationalError)


def from_document(error: dict[str, Any], status: Optional[int] = None) -> DatabaseError:
    """The exception for the "error" of a JSON answer."""
    sqlstate = error.get("sqlstate") or ""
    kind = ConditionFailed if status == 412 else class_of(sqlstate)
    return kind(error.get("message") or "the server gave no reason", sqlstate=sqlstate, detail=error.get("detail") or "",
                hint=error.get("hint") or "", code=error.get("code") or "", retry=error.get("retry") or "never",
                index=error.get("index"), status=status)


def from_answer(status: int, body: bytes) -> DatabaseError:
    """The exception for an answer of HTTP that is an error; something else than a server of ours may have sent it."""
    try:
        return from_document(json.loads(body)["error"], status)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body[:200].decode(errors="replace").strip()
        return OperationalError(f"the server answered {status}: {text}", sqlstate="08P01", status=status)
