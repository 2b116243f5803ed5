"""Keys and values of a namespace."""
from __future__ import annotations

import base64
import datetime
import uuid
from dataclasses import dataclass
from typing import Any, Iterator, Optional, Union
from urllib.parse import quote

from .batch import Batch
from .errors import DataError, InterfaceError
from .transport import Request, Transport
from .watch import Watch

Key = Union[str, bytes]
TEXT = "text/plain; charset=utf-8"
PAGE_KEYS = 1000
VALUE_BYTES_MAX = 64 << 20


class Value(bytes):
    """A value: bytes, with what is kept beside them. content_type, encoding: as they were put, or "". expires: when
    it will go, None for good."""

    version: int
    content_type: str
    encoding: str
    expires: Optional[datetime.datetime]

    def text(self) -> str:
        """As UTF-8."""
        return self.decode()


@dataclass(frozen=True)
class Item:
    """A key as scan() and watch() tell it. key: text, or bytes when it is no UTF-8. value: None when it was not asked for, or
    is larger than 4 MiB."""

    key: Key
    version: int
    size: int
    created: datetime.datetime
    changed: datetime.datetime
    content_type: str
    encoding: str
    expires: Optional[datetime.datetime]
    value: Optional[bytes]


def key_bytes(key: Key) -> bytes:
    """A key as bytes; raises InterfaceError for an empty one."""
    raw = key.encode() if isinstance(key, str) else bytes(key)
    if not raw:
        raise InterfaceError("a key has a byte or more")
    return raw


def key_of(text: str) -> Key:
    """A key out of hex."""
    raw = bytes.fromhex(text)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def moment(ms: Union[int, str]) -> datetime.datetime:
    """Milliseconds since 1970 as a time of UTC."""
    return datetime.datetime.fromtimestamp(int(ms) / 1000, datetime.timezone.utc)


def item_of(told: dict[str, Any]) -> Item:
    """A key of a page or an event, both asked for with encoding=hex and values=base64."""
    value = told.get("value")
    return Item(key_of(told["key"]), told["version"], told.get("size", 0),
                moment(told.get("created_ms", 0)), moment(told.get("changed_ms", 0)),
                told.get("content_type", ""), told.get("encoding", ""), moment(told["expires_ms"]) if told.get("expires_ms") else None,
                base64.b64decode(value) if value is not None else None)


class Namespace:
    """What con.kv("namespace") gives. Keys are texts, or bytes; reads are linearizable. Writes are sent again with a key of their own
    when a connection is lost, and done once. Raises OperationalError, UnknownOutcome when nobody knows whether a write is done."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport, self.name = transport, name
        self._root = f"/kv/{quote(name, safe='')}"

    def get(self, key: Key, default: Any = None, *, consistency: Optional[str] = None) -> Any:
        """The Value of a key, default when it is not there. consistency: "any" for what the asked server has."""
        exchange = self._transport.send(self._request("GET", key, {"consistency": consistency}, repeatable=True))
        if exchange.status == 404:
            error = exchange.error()
            if error.code != "not_found":
                raise error
            return default
        if exchange.status != 200:
            raise exchange.error()
        headers = {name: exchange.header(name) or "" for name in ("ETag", "Content-Type", "Content-Encoding", "Merganser-Expires-Ms")}
        value = Value(exchange.read())
        value.version = int(headers["ETag"].strip('"'))
        value.content_type, value.encoding = headers["Content-Type"], headers["Content-Encoding"]
        value.expires = moment(headers["Merganser-Expires-Ms"]) if headers["Merganser-Expires-Ms"] else None
        return value

    def put(self, key: Key, value: Union[bytes, str], *, ttl: Optional[float] = None, if_version: Optional[int] = None,
            if_absent: bool = False, if_present: bool = False, content_type: Optional[str] = None, encoding: Optional[str] = None) -> int:
        """Put a value, text as UTF-8, and give its version. ttl: seconds until it goes. if_version, if_absent, if_present: only then;
        else ConditionFailed, and nothing is changed. Values have up to 64 MiB."""
        headers = self._conditions(if_version, if_absent, if_present)
        if content_type is None and isinstance(value, str):
            content_type = TEXT
        if content_type:
            headers["Content-Type"] = content_type
        if encoding:
            headers["Content-Encoding"] = encoding
        body = value.encode() if isinstance(value, str) else bytes(value)
        if len(body) > VALUE_BYTES_MAX:
            raise DataError(f"a value has at most {VALUE_BYTES_MAX >> 20} MiB, not {len(body)} bytes", sqlstate="54000")
        return self._transport.call(self._write("PUT", key, {"ttl": ttl}, body, headers))["version"]

    def delete(self, key: Key, *, if_version: Optional[int] = None) -> bool:
        """Delete a key; False when it was not there. Raises ConditionFailed when it has another version."""
        exchange = self._transport.send(self._write("DELETE", key, {}, None, self._conditions(if_version, False, False)))
        if exchange.status >= 300:
            error = exchange.error()
            if error.status == 404 and error.code == "not_found":
                return False
            raise error
        exchange.read()
        return True

    def incr(self, key: Key, by: int = 1) -> int:
        """Add to a decimal number, of a key that is not there to 0, and give the sum. Raises ConditionFailed when it is no number."""
        return self.batch().add(key, by).run()[0].number

    def append(self, key: Key, value: Union[bytes, str]) -> int:
        """Append to a value, of a key that is not there to nothing, and give its version."""
        return self.batch().append(key, value).run()[0].version

    def scan(self, prefix: Optional[Key] = None, *, start: Optional[Key] = None, end: Optional[Key] = None, values: bool = False,
             limit: Optional[int] = None, page: int = PAGE_KEYS, consistency: Optional[str] = None) -> Iterator[Item]:
        """Keys in their order, from start to before end, as Items; they come page by page. values: with their values."""
        query = {"prefix": _hex(prefix), "start": _hex(start), "end": _hex(end), "encoding": "hex", "limit": page,
                 "values": "base64" if values else None, "consistency": consistency, "cursor": None}
        left = limit
        while left is None or left > 0:
            query["limit"] = page if left is None else min(page, left)
            answer = self._transport.call(Request("GET", self._root, query, repeatable=True, timeout=self._transport.options.timeout))
            yield from map(item_of, answer["keys"])
            query["cursor"] = answer["cursor"]
            if not answer["cursor"]:
                return
            left = None if left is None else left - len(answer["keys"])

    def batch(self) -> Batch:
        """Operations that happen together or not at all (Batch)."""
        return Batch(self._transport, self._root)

    def watch(self, prefix: Optional[Key] = None, *, values: bool = False, token: Optional[str] = None) -> Watch:
        """What changes in keys, from now on, or from the token of an earlier watch (Watch)."""
        return Watch(self._transport, self._root, _hex(prefix), values, token)

    def __contains__(self, key: Key) -> bool:
        exchange = self._transport.send(self._request("HEAD", key, {}, repeatable=True))
        exchange.read()
        if exchange.status not in (200, 404):
            raise exchange.error()
        return exchange.status == 200

    def _request(self, method: str, key: Key, query: dict[str, Any], **kwargs: Any) -> Request:
        path = f"{self._root}/{key_bytes(key).hex()}"
        return Request(method, path, {**query, "encoding": "hex"}, timeout=self._transport.options.timeout, **kwargs)

    def _write(self, method: str, key: Key, query: dict[str, Any], body: Optional[bytes], headers: dict[str, str]) -> Request:
        return self._request(method, key, query, body=body, headers={**headers, "Idempotency-Key": str(uuid.uuid4())}, repeatable=True)

    @staticmethod
    def _conditions(version: Optional[int], absent: bool, present: bool) -> dict[str, str]:
        if (version is not None) + absent + present > 1:
            raise InterfaceError("if_version, if_absent and if_present exclude each other")
        if version is not None:
            return {"If-Match": f'"{version}"'}
        return {"If-None-Match": "*"} if absent else {"If-Match": "*"} if present else {}


def _hex(key: Optional[Key]) -> Optional[str]:
    return key_bytes(key).hex() if key else None
