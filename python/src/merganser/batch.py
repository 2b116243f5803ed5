"""Operations on several keys at once."""
from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from typing import Any, Optional, Union

from .errors import InterfaceError
from .transport import Request, Transport

Key = Union[str, bytes]


@dataclass(frozen=True)
class Result:
    """Of one operation. version: 0 when the key is not there (any more); value: of a get, None when there is none; number: of
    an add; deleted: of a delete."""

    version: int
    value: Optional[bytes] = None
    content_type: str = ""
    encoding: str = ""
    number: int = 0
    deleted: bool = False


class Batch:
    """Collects operations, in their order, and carries them out together: all of them, or none. As a context manager it runs
    at the end of the block, unless that fails; results then has what came of each.

        with con.kv("bank").batch() as batch:
            batch.check("ann", if_version=7).add("ann", -10).add("ben", 10)
    """

    def __init__(self, transport: Transport, root: str) -> None:
        self._transport, self._root = transport, root
        self._operations: list[dict[str, Any]] = []
        self.results: Optional[list[Result]] = None

    def get(self, key: Key) -> "Batch":
        """Read a key."""
        return self._add("get", key, {})

    def put(self, key: Key, value: Union[bytes, str], *, ttl: Optional[float] = None, if_version: Optional[int] = None,
            if_absent: bool = False, if_present: bool = False, content_type: str = "", encoding: str = "") -> "Batch":
        """Put a value of up to 4 MiB."""
        more = {"ttl": ttl, "content_type": content_type or None, "encoding": encoding or None}
        return self._add("put", key, {**_value(value), **more, **_conditions(if_version, if_absent, if_present)})

    def delete(self, key: Key, *, if_version: Optional[int] = None, if_present: bool = False) -> "Batch":
        """Delete a key."""
        return self._add("delete", key, _conditions(if_version, False, if_present))

    def add(self, key: Key, by: int = 1) -> "Batch":
        """Add to a decimal number; none counts as 0."""
        return self._add("add", key, {"by": by})

    def append(self, key: Key, value: Union[bytes, str], *, if_version: Optional[int] = None) -> "Batch":
        """Append to a value."""
        return self._add("append", key, {**_value(value), **_conditions(if_version, False, False)})

    def check(self, key: Key, *, if_version: Optional[int] = None, if_absent: bool = False, if_present: bool = False) -> "Batch":
        """Nothing but a condition, on which all of it depends."""
        return self._add("check", key, _conditions(if_version, if_absent, if_present))

    def run(self) -> list[Result]:
        """Carry it out, once; raises ConditionFailed, and then nothing has changed."""
        if self.results is not None:
            raise InterfaceError("the batch has run already")
        if not self._operations:
            self.results = []
            return self.results
        body = json.dumps({"ops": self._operations}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        answer = self._transport.call(Request("POST", f"{self._root}/batch", body=body, headers=headers, repeatable=True,
                                              timeout=self._transport.options.timeout))
        self.results = [_result(one) for one in answer["results"]]
        return self.results

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        if kind is None and self.results is None:
            self.run()

    def _add(self, operation: str, key: Key, more: dict[str, Any]) -> "Batch":
        raw = key.encode() if isinstance(key, str) else bytes(key)
        one = {"op": operation, "key_hex": raw.hex(), **more}
        self._operations.append({name: value for name, value in one.items() if value is not None})
        return self


def _value(value: Union[bytes, str]) -> dict[str, str]:
    return {"value": value} if isinstance(value, str) else {"value_base64": base64.b64encode(value).decode()}


def _conditions(version: Optional[int], absent: bool, present: bool) -> dict[str, Any]:
    return {"if_version": version, "if_absent": absent or None, "if_present": present or None}


def _result(told: dict[str, Any]) -> Result:
    value: Optional[bytes] = None
    if "value_base64" in told:
        value = base64.b64decode(told["value_base64"])
    elif told.get("value") is not None:
        value = told["value"].encode()
    return Result(told.get("version", 0), value, told.get("content_type", ""), told.get("encoding", ""), told.get("number", 0),
                  told.get("deleted", False))
