"""Columns of Arrow as Python objects, equal to those that DuckDB's own package gives. Needs pyarrow."""
from __future__ import annotations

import datetime
import uuid
from typing import Any, Callable, Optional

import pyarrow as pa

from .sqltypes import SqlType
from .values import DAYS_OF_MONTH, to_time, years_of_people

DAY_US = 86_400_000_000
INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
EPOCH = datetime.datetime(1970, 1, 1)
EPOCH_UTC = EPOCH.replace(tzinfo=datetime.timezone.utc)
EPOCH_DAY = EPOCH.toordinal()
FORMATS = {"int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
           "float": "f", "double": "d"}
TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
OF_TEXT: dict[str, Callable[[Any], Any]] = {"UUID": uuid.UUID, "TIME WITH TIME ZONE": to_time}
NAMES = {"bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "uint8": "UTINYINT",
         "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT", "float": "FLOAT", "double": "DOUBLE", "string": "VARCHAR",
         "binary": "BLOB", "date32[day]": "DATE", "time64[us]": "TIME", "time64[ns]": "TIME_NS", "timestamp[s]": "TIMESTAMP_S",
         "timestamp[ms]": "TIMESTAMP_MS", "timestamp[us]": "TIMESTAMP", "timestamp[ns]": "TIMESTAMP_NS",
         "month_day_nano_interval": "INTERVAL"}


def type_name(kind: pa.DataType) -> tuple[str, bool]:
    """The SQL type that Arrow's stands for, and whether it is the only one: text may be a UUID, decimal128(38,0) a HUGEINT."""
    if pa.types.is_dictionary(kind):
        return "ENUM", False
    if pa.types.is_decimal(kind):
        wide = kind.precision == 38 and kind.scale == 0
        return "HUGEINT" if wide else f"DECIMAL({kind.precision},{kind.scale})", not wide
    if pa.types.is_timestamp(kind) and kind.tz:
        return "TIMESTAMP WITH TIME ZONE", True
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        name, sure = type_name(kind.value_type)
        return f"{name}[]", sure
    if pa.types.is_fixed_size_list(kind):
        name, sure = type_name(kind.value_type)
        return f"{name}[{kind.list_size}]", sure
    if pa.types.is_map(kind):
        (key, sure), (value, also) = type_name(kind.key_type), type_name(kind.item_type)
        return f"MAP({key}, {value})", sure and also
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        inside = [type_name(one.type) for one in fields]
        texts = [f'"{one.name}" {name}' if one.name else name for one, (name, _) in zip(fields, inside)]
        word = "STRUCT" if pa.types.is_struct(kind) else "UNION"
        return f"{word}({', '.join(texts)})", all(sure for _, sure in inside)
    name = NAMES.get(str(kind), str(kind))
    return name, name not in ("VARCHAR", "BLOB") and str(kind) in NAMES


def column(array: pa.Array, kind: SqlType) -> list[Any]:
    """The values of an array of that SQL type."""
    arrow = array.type
    if pa.types.is_dictionary(arrow):
        array = array.dictionary_decode()
        arrow = array.type
    if str(arrow) in FORMATS:
        return _filled(array, _numbers(array, FORMATS[str(arrow)]))
    if pa.types.is_date32(arrow):
        return _each(array, _numbers(array, "i"), _date)
    if pa.types.is_timestamp(arrow):
        return _each(array, _numbers(array, "q"), _timestamp(arrow.unit, arrow.tz is not None))
    if pa.types.is_time64(arrow):
        return _each(array, _numbers(array, "q"), _time(1 if arrow.unit == "us" else 1000))
    if pa.types.is_struct(arrow):
        return _struct(array, kind)
    if pa.types.is_map(arrow):
        return _map(array, kind)
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return _lists(array, kind)
    if pa.types.is_union(arrow):
        return _union(array, kind)
    convert = _scalar(arrow, kind)
    values = array.to_pylist()
    return [None if value is None else convert(value) for value in values] if convert else values


def _scalar(arrow: pa.DataType, kind: SqlType) -> Optional[Callable[[Any], Any]]:
    if pa.types.is_decimal(arrow) and kind.base in ("HUGEINT", "UHUGEINT"):
        return int
    if pa.types.is_interval(arrow):
        return _interval
    if pa.types.is_binary(arrow) and kind.base == "BIT":
        return _bits
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return OF_TEXT.get(kind.base)
    return None


def _valid(array: pa.Array) -> Optional[list[bool]]:
    return array.is_valid().to_pylist() if array.null_count else None


def _filled(array: pa.Array, values: list[Any]) -> list[Any]:
    valid = _valid(array)
    return [value if there else None for value, there in zip(values, valid)] if valid else values


def _each(array: pa.Array, values: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
    valid = _valid(array)
    if valid is None:
        return [convert(value) for value in values]
    return [convert(value) if there else None for value, there in zip(values, valid)]


def _numbers(array: pa.Array, form: Any) -> list[Any]:
    """The numbers as they lie there, also under NULLs."""
    data = array.buffers()[1]
    if data is None or not len(array):
        return [0] * len(array)
    return memoryview(data).cast("B").cast(form)[array.offset:array.offset + len(array)].tolist()


def _civil(days: int) -> str:
    """A day that Python's dates cannot hold, by the rules of the Gregorian calendar at any time."""
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    number, name = day - (153 * month + 2) // 5 + 1, month + 3 if month < 10 else month - 9
    return f"{year + era * 400 + (name <= 2):04}-{name:02}-{number:02}"


def _date(days: int) -> Any:
    if abs(days) == INT32_MAX:
        return datetime.date.max if days > 0 else datetime.date.min
    try:
        return datetime.date.fromordinal(EPOCH_DAY + days)
    except (ValueError, OverflowError):
        return years_of_people(_civil(days))


def _timestamp(unit: str, zoned: bool) -> Callable[[int], Any]:
    per_s, epoch = TICKS_PER_S[unit], EPOCH_UTC if zoned else EPOCH

    def convert(ticks: int) -> Any:
        if abs(ticks) == INT64_MAX:
            return datetime.datetime.max if ticks > 0 else datetime.datetime.min
        us = ticks // 1000 if unit == "ns" else ticks * (1_000_000 // per_s)
        try:
            return epoch + datetime.timedelta(microseconds=us)
        except OverflowError:
            days, rest = divmod(us, DAY_US)
            zone = "+00" if zoned else ""
            return years_of_people(f"{_civil(days)} {_clock(rest)}{zone}")
    return convert


def _clock(us: int) -> str:
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _time(divisor: int) -> Callable[[int], Any]:
    def convert(ticks: int) -> Any:
        us = ticks // divisor
        seconds, fraction = divmod(us, 1_000_000)
        if us >= DAY_US:
            return _clock(us)
        return datetime.time(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction)
    return convert


def _interval(value: Any) -> datetime.timedelta:
    return datetime.timedelta(days=value.months * DAYS_OF_MONTH + value.days, microseconds=value.nanoseconds // 1000)


def _bits(value: bytes) -> str:
    """DuckDB's BIT: how many bits pad the first byte behind, then the bits."""
    return "".join(f"{byte:08b}" for byte in value[1:])[value[0]:]


def _arg(kind: SqlType, place: int, arrow: pa.DataType) -> SqlType:
    """The type inside; where it is not known, what Arrow's own says."""
    if place < len(kind.args):
        return kind.args[place]
    name = type_name(arrow)[0]
    return SqlType(name, name.split("(", 1)[0])


def _struct(array: pa.Array, kind: SqlType) -> list[Any]:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    columns = [column(child, _arg(kind, i, child.type)) for i, child in enumerate(array.flatten())]
    rows: Any = zip(*columns) if columns else [()] * len(array)
    made = list(rows) if not any(names) else [dict(zip(names, row)) for row in rows]
    return _filled(array, made)


def _lists(array: pa.Array, kind: SqlType) -> list[Any]:
    inside = array.flatten()  # without what NULL lists hold
    values = column(inside, _arg(kind, 0, inside.type))
    if pa.types.is_fixed_size_list(array.type):
        return _cut(array, [array.type.list_size] * len(array), values, tuple)
    offsets = array.offsets.to_pylist()
    return _cut(array, [end - begin for begin, end in zip(offsets, offsets[1:])], values, list)


def _cut(array: pa.Array, sizes: list[int], values: list[Any], made: Callable[[Any], Any]) -> list[Any]:
    """Values side by side, as one value for each entry that is there."""
    out, at = [], 0
    for size, there in zip(sizes, _valid(array) or [True] * len(array)):
        out.append(made(values[at:at + size]) if there else None)
        at += size if there else 0
    return out


def _map(array: pa.Array, kind: SqlType) -> list[Any]:
    offsets = array.offsets.to_pylist()
    begin, end = (offsets[0], offsets[-1]) if offsets else (0, 0)
    keys, items = array.keys[begin:end], array.items[begin:end]
    pairs = list(zip(column(keys, _arg(kind, 0, keys.type)), column(items, _arg(kind, 1, items.type))))
    made = [_dict(pairs[one - begin:other - begin]) for one, other in zip(offsets, offsets[1:])]
    return _filled(array, made)


def _dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """As DuckDB does it: keys that Python cannot hash stand in a list of their own."""
    try:
        return dict(pairs)
    except TypeError:
        return {"key": [key for key, _ in pairs], "value": [value for _, value in pairs]}


def _union(array: pa.Array, kind: SqlType) -> list[Any]:
    members = [column(array.field(i), _arg(kind, i, array.type.field(i).type)) for i in range(array.type.num_fields)]
    places = {code: i for i, code in enumerate(array.type.type_codes)}
    return [members[places[code]][row] for row, code in enumerate(array.type_codes.to_pylist())]
