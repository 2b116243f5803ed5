"""Python values as parameters: JSON for the server, and the CAST that gives each the type that it has in Python."""
from __future__ import annotations

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from .errors import InterfaceError, ProgrammingError
from .sqltext import Statement, replace_parameters

Parameters = Union[Sequence[Any], Mapping[str, Any], None]
DECIMAL_DIGITS_MAX = 38


def bind(statement: Statement, parameters: Parameters) -> tuple[str, Any]:
    """The text with its casts and the list or object of values; None when there are no parameters.
    Raises ProgrammingError when their number differs, InterfaceError for a value of no SQL type."""
    if parameters is None or (not parameters and not statement.parameters):
        if statement.parameters:
            raise ProgrammingError(f"the statement has {len(statement.parameters)} parameters, and got none", sqlstate="07001")
        return statement.sql, None
    types: dict[str, Optional[str]] = {}
    if isinstance(parameters, Mapping):
        values: Any = {}
        for name, value in parameters.items():
            values[name], types[f"${name}"] = literal(value)
        return replace_parameters(statement, types), values
    if isinstance(parameters, (str, bytes)) or not isinstance(parameters, Sequence):
        raise ProgrammingError(f"parameters are a list, a tuple or a dict, not {type(parameters).__name__}", sqlstate="07001")
    plain = sum(token.text == "?" for token in statement.parameters)
    if plain == len(statement.parameters) and plain != len(parameters):
        raise ProgrammingError(f"the statement has {plain} parameters, and got {len(parameters)}", sqlstate="07001")
    values = []
    for place, value in enumerate(parameters):
        sent, cast = literal(value)
        values.append(sent)
        types.update({str(place): cast, f"?{place + 1}": cast, f"${place + 1}": cast})
    return replace_parameters(statement, types), values


def literal(value: Any) -> tuple[Any, Optional[str]]:
    """What JSON holds it, and the SQL around its ? when the literal alone would have another type."""
    value = _plain(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode(), "from_base64(?)"
    if isinstance(value, (list, tuple, dict)):
        cast = _type_of(value) if _needs_type(value) else None
        return _inside(value), f"CAST(? AS {cast})" if cast else None
    cast = _type_of(value) if _needs_type(value) else None
    return _inside(value), f"CAST(? AS {cast})" if cast else None


def kind_of(value: Any) -> Optional[str]:
    """A name that is the same for values that may stand in one column of VALUES without one changing the other; None: beside any."""
    try:
        name = _type_of(value)
    except InterfaceError:  # a list of several types
        return f"{type(value).__name__} {value!r}"
    return "DECIMAL" if name and name.startswith("DECIMAL") and name.endswith(")") else name


def _plain(value: Any) -> Any:
    """numpy's and pandas' values as Python's."""
    module = type(value).__module__
    if module.startswith("numpy"):
        return value.tolist()
    if module.startswith("pandas") and (type(value).__name__ in ("NaTType", "NAType")):
        return None
    return value


def _inside(value: Any) -> Any:
    """As JSON. Bytes in lists are escaped, which a CAST to BLOB reads."""
    value = _plain(value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days} days {value.seconds * 1_000_000 + value.microseconds} microseconds"
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "".join(f"\\x{byte:02X}" for byte in bytes(value))
    if isinstance(value, (list, tuple)):
        return [_inside(one) for one in value]
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise InterfaceError("the names of a dict that is a STRUCT are texts")
        return {name: _inside(one) for name, one in value.items()}
    raise InterfaceError(f"a value of type {type(value).__name__} is none of SQL")


def _needs_type(value: Any) -> bool:
    value = _plain(value)
    if isinstance(value, (list, tuple)):
        return any(_needs_type(one) for one in value)
    if isinstance(value, dict):
        return any(_needs_type(one) for one in value.values())
    if isinstance(value, float):
        return not math.isfinite(value)
    return not (value is None or isinstance(value, (bool, int, str)))


def _type_of(value: Any) -> Optional[str]:
    """The SQL type; None for NULL and empty lists, which fit any."""
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT" if -2**63 <= value < 2**63 else "HUGEINT"
    if isinstance(value, float):
        return "DOUBLE"
    if isinstance(value, str):
        return "VARCHAR"
    if isinstance(value, decimal.Decimal):
        return _decimal_type(value)
    if isinstance(value, datetime.datetime):
        return "TIMESTAMP WITH TIME ZONE" if value.tzinfo else "TIMESTAMP"
    if isinstance(value, datetime.date):
        return "DATE"
    if isinstance(value, datetime.time):
        return "TIME WITH TIME ZONE" if value.tzinfo else "TIME"
    if isinstance(value, datetime.timedelta):
        return "INTERVAL"
    if isinstance(value, uuid.UUID):
        return "UUID"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "BLOB"
    if isinstance(value, (list, tuple)):
        return _list_type(value)
    if isinstance(value, dict):
        fields = ", ".join(f'"{_quoted(name)}" {_type_of(one) or "VARCHAR"}' for name, one in value.items())
        return f"STRUCT({fields})"
    raise InterfaceError(f"a value of type {type(value).__name__} is none of SQL")


def _quoted(name: Any) -> str:
    return str(name).replace('"', '""')


def _decimal_type(value: decimal.Decimal) -> str:
    if not value.is_finite():
        return "DOUBLE"
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scale = max(-exponent, 0)
    width = max(len(digits) + max(exponent, 0), scale, 1)
    if width > DECIMAL_DIGITS_MAX:
        raise InterfaceError(f"{value} has more than {DECIMAL_DIGITS_MAX} digits")
    return f"DECIMAL({width},{scale})"


def _list_type(values: Sequence[Any]) -> Optional[str]:
    """Of the widest element: decimals of different scales meet in one that holds all."""
    decimals = [one for one in values if isinstance(one, decimal.Decimal) and one.is_finite()]
    found = {one for one in map(_type_of, values) if one}
    if len(found) > 1 and len(decimals) == sum(one is not None for one in values):
        parts = [tuple(map(int, _decimal_type(one)[8:-1].split(","))) for one in decimals]
        scale = max(part[1] for part in parts)
        width = min(max(part[0] - part[1] for part in parts) + scale, DECIMAL_DIGITS_MAX)
        return f"DECIMAL({width},{scale})[]"
    if found == {"BIGINT", "HUGEINT"}:
        found = {"HUGEINT"}
    if len(found) > 1:
        raise InterfaceError(f"a list holds values of different types: {', '.join(sorted(found))}")
    return f"{found.pop()}[]" if found else None
