"""Values of JSON answers, and texts that stand for values in Arrow, as the Python objects that DuckDB's own package gives."""
from __future__ import annotations

import base64
import datetime
import decimal
import json
import re
import struct
import uuid
from typing import Any, Callable, Optional

from .sqltypes import SqlType

Convert = Optional[Callable[[Any], Any]]  # of a value that is not None; None: it stays as it is
DAYS_OF_MONTH = 30                        # of an interval, as DuckDB counts
INTERVAL = re.compile(r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d+))?S)?)?$")
TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([+-])(\d\d)(?::?(\d\d))?(?::?(\d\d))?|(Z))?$")
DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)$")
YEARS = re.compile(r"(-?\d+)-(\d\d-\d\d)(.*)$", re.DOTALL)
TIMES = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")


def micros(fraction: Optional[str]) -> int:
    """Of the digits behind a second's point; what is finer is cut off."""
    return int((fraction or "")[:6].ljust(6, "0"))


def years_of_people(text: str) -> str:
    """What Python's dates cannot hold, as DuckDB writes it: year 0 is 1 BC."""
    match = YEARS.match(text)
    if not match:
        return text
    year, day, rest = int(match.group(1)), match.group(2), match.group(3).replace("T", " ", 1)
    return f"{year:04}-{day}{rest}" if year > 0 else f"{1 - year:04}-{day}{rest} (BC)"


def to_date(text: str) -> Any:
    """A date; its infinities are the ends of what Python has; text when it is beyond them."""
    if text.endswith("infinity"):
        return datetime.date.min if text[0] == "-" else datetime.date.max
    match = DATE.match(text)
    if not match or match.group(1) == "0000":
        return years_of_people(text)
    return datetime.date(int(match.group(1)), int(match.group(2)), int(match.group(3)))


def to_time(text: str) -> Any:
    """A time of day, with its zone when it has one; 24:00:00 stays text, as Python has none."""
    match = TIME.match(text)
    if not match or match.group(1) == "24":
        return text
    hour, minute, second = (int(match.group(i)) for i in (1, 2, 3))
    zone = None
    if match.group(5):
        away = datetime.timedelta(hours=int(match.group(6)), minutes=int(match.group(7) or 0), seconds=int(match.group(8) or 0))
        zone = datetime.timezone(-away if match.group(5) == "-" else away)
    elif match.group(9):
        zone = datetime.timezone.utc
    return datetime.time(hour, minute, second, micros(match.group(4)), zone)


def to_timestamp(text: str) -> Any:
    """A time without zone, or, when the text has one, with it."""
    if text.endswith("infinity"):
        return datetime.datetime.min if text[0] == "-" else datetime.datetime.max
    day, _, clock = text.partition("T")
    date, at = to_date(day), to_time(clock)
    if isinstance(date, str) or isinstance(at, str):
        return years_of_people(text)
    return datetime.datetime.combine(date, at)


def to_interval(text: str) -> datetime.timedelta:
    """The time that an interval of ISO 8601 takes; a month has 30 days."""
    match = INTERVAL.match(text)
    if not match:
        raise ValueError(f'"{text}" is no interval')
    years, months, days, hours, minutes = (int(match.group(i) or 0) for i in range(1, 6))
    second = int(match.group(7) or 0) * 1_000_000 + micros(match.group(8))
    return datetime.timedelta(days=(years * 12 + months) * DAYS_OF_MONTH + days, hours=hours, minutes=minutes,
                              microseconds=-second if match.group(6) else second)


def to_float(value: Any) -> float:
    return float(value)


def to_single(value: Any) -> float:
    """A FLOAT as the double that it is: 1.1 is 1.100000023841858."""
    return float(struct.unpack("f", struct.pack("f", float(value)))[0])


def to_bool(value: Any) -> bool:
    """Also of a MAP's key, which is text."""
    return value if isinstance(value, bool) else value == "true"


def to_json(value: Any) -> str:
    """A JSON value, which stands in the answer as what it is, as text again."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


PLAIN: dict[str, Convert] = {
    "BOOLEAN": to_bool, "DECIMAL": decimal.Decimal, "DOUBLE": to_float, "FLOAT": to_single, "UUID": uuid.UUID,
    "BLOB": base64.b64decode, "DATE": to_date, "TIME": to_time, "TIME_NS": to_time, "TIME WITH TIME ZONE": to_time,
    "INTERVAL": to_interval, "JSON": to_json, **{name: to_timestamp for name in TIMES},
    **{name: int for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
                              "UHUGEINT")},
}
SMALL = frozenset(("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "BOOLEAN"))  # JSON has them as they are


def from_json(kind: SqlType, key: bool = False) -> Convert:
    """How values of a type are read out of JSON. key: they are keys of a MAP, which are text."""
    if kind.base in ("LIST", "ARRAY"):
        return _sequence(from_json(kind.args[0]), list if kind.base == "LIST" else tuple)
    if kind.base == "STRUCT":
        return _struct(kind)
    if kind.base == "MAP":
        return _map(kind)
    if kind.base == "UNION":
        return _union(kind)
    if kind.base in SMALL and not key:
        return None
    return PLAIN.get(kind.base)


def maybe(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same, and NULL stays NULL."""
    return lambda value: None if value is None else convert(value)


def _sequence(inner: Convert, made: Callable[[Any], Any]) -> Convert:
    if inner is None:
        return None if made is list else made
    each = maybe(inner)
    return lambda values: made([each(value) for value in values])


def _struct(kind: SqlType) -> Convert:
    inner = [maybe(one) if one else None for one in map(from_json, kind.args)]
    if kind.fields is None:
        return lambda values: tuple(one(value) if one else value for one, value in zip(inner, values))
    changed = [(name, one) for name, one in zip(kind.fields, inner) if one]
    if not changed:
        return None

    def convert(values: dict[str, Any]) -> dict[str, Any]:
        for name, one in changed:
            values[name] = one(values[name])
        return values
    return convert


def _map(kind: SqlType) -> Convert:
    of_key, of_value = from_json(kind.args[0], key=True), from_json(kind.args[1])
    each = maybe(of_value) if of_value else None
    if kind.args[0].base in ("LIST", "ARRAY", "STRUCT", "MAP", "UNION"):
        of_key = None  # such keys are texts in the answer
    return lambda values: {of_key(key) if of_key else key: each(value) if each else value for key, value in values.items()}


def _union(kind: SqlType) -> Convert:
    """The answer does not say which member it is: the first that the value fits."""
    members = [(from_json(one), one) for one in kind.args]

    def convert(value: Any) -> Any:
        for one, member in members:
            if not _fits(member, value):
                continue
            try:
                return one(value) if one else value
            except (ValueError, TypeError, KeyError, decimal.InvalidOperation):
                continue
        return value
    return convert


def _fits(kind: SqlType, value: Any) -> bool:
    wanted = {"BOOLEAN": bool, "LIST": list, "ARRAY": list, "MAP": dict, "STRUCT": (dict, list), "VARCHAR": str, "DATE": str,
              "UUID": str, "BLOB": str}.get(kind.base)
    if wanted is None:
        return not isinstance(value, (bool, list, dict))
    return isinstance(value, wanted)  # type: ignore[arg-type]
