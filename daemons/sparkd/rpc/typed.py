"""Dataclasses to JSON and back, by their type hints. Strict: a value of the wrong type is refused, a field that is unknown is skipped.

Skipping unknown fields lets masters and workers of neighbouring versions talk while a cluster is upgraded.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from ..core.values import Json

T = TypeVar("T")


class Malformed(ValueError):
    """JSON that is not of the type it should be; the text names the field, never the value (it may be a secret)."""


def to_json(value: object) -> Json:
    """Return a value made of dataclasses, tuples, mappings and scalars as plain JSON. Fields that are their default are left out."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    kind: Any = type(value)
    body = {}
    for name, default in _fields(kind):
        item = getattr(value, name)
        if item != default or item is None:
            body[name] = to_json(item)
    return body


def from_json(kind: type[T], body: Json) -> T:
    """Return the dataclass that the JSON tells of. Raises Malformed."""
    shape: Any = kind
    return typing.cast(T, _reader(shape)(body, kind.__name__))


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, object], ...]:
    """Return names and defaults of a dataclass's fields; a field without a default has one that equals nothing."""
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"no JSON form for {kind}")
    found: list[tuple[str, object]] = []
    for field in dataclasses.fields(kind):
        default: object = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append((field.name, default))
    return tuple(found)


Reader = Callable[[Json, str], Any]


@functools.cache
def _reader(kind: Any) -> Reader:
    """Return a function that checks and converts JSON to this type hint."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is str or kind is bool or kind is int:
        return functools.partial(_scalar, kind)
    if kind is float:
        return _float
    if kind is bytes:
        return _bytes
    if kind is type(None):
        return functools.partial(_one_of, (None,))
    if origin is Literal:
        return functools.partial(_one_of, arguments)
    if origin in (typing.Union, types.UnionType):
        rest = [item for item in arguments if item is not type(None)]
        if len(rest) != 1:
            raise TypeError(f"no JSON form for {kind}")
        return functools.partial(_optional, _reader(rest[0]))
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        return functools.partial(_many, _reader(arguments[0]))
    if origin is tuple:
        return functools.partial(_fixed, tuple(_reader(item) for item in arguments))
    if origin is not None and issubclass(origin, Mapping) and arguments == (str, str):
        return _strings
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return functools.partial(_dataclass, kind, tuple((name, default, _reader(hints[name])) for name, default in _fields(kind)))
    raise TypeError(f"no JSON form for {kind}")


def _scalar(kind: type, body: Json, where: str) -> Json:
    if type(body) is not kind:  # bool is an int, and must not pass as one
        raise Malformed(f"{where}: not of type {kind.__name__}")
    return body


def _float(body: Json, where: str) -> float:
    if type(body) not in (int, float):
        raise Malformed(f"{where}: not a number")
    return float(body)


def _bytes(body: Json, where: str) -> bytes:
    try:
        return base64.b64decode(_scalar(str, body, where), validate=True)
    except binascii.Error:
        raise Malformed(f"{where}: not base64") from None


def _one_of(allowed: tuple[object, ...], body: Json, where: str) -> Json:
    if isinstance(body, list | dict) or body not in allowed:
        raise Malformed(f"{where}: none of {', '.join(map(str, allowed))}")
    return body


def _optional(inner: Reader, body: Json, where: str) -> Any:
    return None if body is None else inner(body, where)


def _many(inner: Reader, body: Json, where: str) -> Any:
    if type(body) is not list:
        raise Malformed(f"{where}: not a list")
    return tuple([inner(item, where) for item in body])


def _fixed(inner: tuple[Reader, ...], body: Json, where: str) -> Any:
    if type(body) is not list or len(body) != len(inner):
        raise Malformed(f"{where}: not a list of {len(inner)}")
    return tuple([read(item, where) for read, item in zip(inner, body, strict=True)])


def _strings(body: Json, where: str) -> Any:
    if type(body) is not dict or not all(type(key) is str and type(item) is str for key, item in body.items()):
        raise Malformed(f"{where}: not a map of strings")
    return body


def _dataclass(kind: type, fields: tuple[tuple[str, object, Reader], ...], body: Json, where: str) -> Any:
    if type(body) is not dict:
        raise Malformed(f"{where}: not an object")
    values = {}
    for name, default, read in fields:
        if name in body:
            values[name] = read(body[name], f"{where}.{name}")
        elif default is dataclasses.MISSING:
            raise Malformed(f"{where}.{name}: missing")
    return kind(**values)
