"""Typed dataclasses to plain JSON and back, with bounds and errors that name the place. For the wire and for records.

Decoding never evaluates anything, takes only the types that a field declares, and ignores fields that it does not know, so that an older
member of a cluster understands a newer one. A field whose value is empty (None, "", no items) and whose default is just that is left out.
A field with metadata {"stored": False} belongs to memory only.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeVar, Union, cast

from .values import Json

T = TypeVar("T")

#: Characters of one string (base64 of an application's payload included); the record and frame limits are below or near it.
MAX_TEXT = 8 * 1024 * 1024
#: Items of one list or object.
MAX_ITEMS = 100_000
#: Nesting of values whose type is not declared (object, Any).
MAX_DEPTH = 16
_INT_LIMIT = 2**63

_Decoder = Callable[[Any], Any]
_Encoder = Callable[[Any], Json]


class CodecError(ValueError):
    """A value is not what its field declares. The text names the place: worker.cores: "x" is not a whole number."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []

    def __str__(self) -> str:
        """Place and reason."""
        place = "".join(reversed(self.path)).lstrip(".")
        return f"{place}: {self.why}" if place else self.why

    def inside(self, part: str) -> CodecError:
        """Return self, one level further out."""
        self.path.append(part)
        return self


def _shown(value: object) -> str:
    """Type and, for short plain values, the value: never a whole hostile document."""
    if value is None or isinstance(value, bool | int | float):
        text = repr(value)
    elif isinstance(value, str):
        text = repr(value[:40]) + ("..." if len(value) > 40 else "")
    else:
        text = f"a JSON {type(value).__name__}"
    return text[:60]


def encode(value: object) -> Json:
    """Return a dataclass (or a declared container of them) as plain JSON. Raises CodecError for what JSON cannot carry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encoder(type(value))(value)
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return _plain(value)


def decode(cls: type[T], data: object) -> T:
    """Return `data` as a `cls`. Raises CodecError."""
    return cast(T, _decoder_of(cls)(data))


# --- encoding


def _plain(value: object) -> Json:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CodecError(f"{type(value).__name__} cannot be written as JSON")


def _identity(value: Any) -> Json:
    return value


@functools.cache
def _encoder(cls: type) -> _Encoder:
    hints = typing.get_type_hints(cls)
    plan: list[tuple[str, _Encoder | None, bool]] = []
    for item in dataclasses.fields(cls):
        if not item.metadata.get("stored", True):
            continue
        plan.append((item.name, _encoder_of(hints[item.name]), _empty_default(item)))

    def run(value: Any) -> Json:
        result: dict[str, Json] = {}
        for name, encoder, droppable in plan:
            content = getattr(value, name)
            if droppable and (content is None or (content.__class__ in _CONTAINERS and not content)):
                continue
            result[name] = content if encoder is None else encoder(content)
        return result

    return run


_CONTAINERS = (str, tuple, list, dict, bytes, types.MappingProxyType)


def _empty_default(item: dataclasses.Field[Any]) -> bool:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory in (dict, list, tuple)
    return item.default is None or item.default == "" or item.default == b"" or item.default == ()


def _encoder_of(tp: Any) -> _Encoder | None:
    """None: the value is written as it is."""
    if tp in (str, int, float, bool, type(None)) or typing.get_origin(tp) is Literal:
        return None
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return lambda value: _encoder(tp)(value)
    if isinstance(tp, type) and issubclass(tp, Enum):
        return lambda value: value.value
    if tp is bytes:
        return _plain
    origin, arguments = typing.get_origin(tp), typing.get_args(tp)
    if origin in (Union, types.UnionType):
        inner = [part for part in arguments if part is not type(None)]
        if len(inner) == 1:
            single = _encoder_of(inner[0])
            return None if single is None else lambda value: None if value is None else single(value)
        return encode
    if origin in (tuple, list, Sequence) and arguments and (len(arguments) == 1 or arguments[1] is Ellipsis):
        each = _encoder_of(arguments[0])
        return list if each is None else lambda value: [each(item) for item in value]
    if origin in (dict, Mapping):
        content = _encoder_of(arguments[1])
        if content is None:
            return lambda value: {str(key): item for key, item in value.items()}
        return lambda value: {str(key): content(item) for key, item in value.items()}
    return encode


# --- decoding


def _decoder_of(tp: Any) -> _Decoder:
    return _decoder(tp)


@functools.cache
def _decoder(tp: Any) -> _Decoder:
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return _dataclass_decoder(tp)
    simple = _SIMPLE.get(tp)
    if simple is not None:
        return simple
    if isinstance(tp, type) and issubclass(tp, Enum):
        return _enum_decoder(tp)
    origin, arguments = typing.get_origin(tp), typing.get_args(tp)
    if origin is Literal:
        return _literal_decoder(arguments)
    if origin in (Union, types.UnionType):
        return _union_decoder(arguments)
    if origin in (tuple, list, Sequence):
        return _sequence_decoder(origin, arguments)
    if origin in (dict, Mapping):
        return _mapping_decoder(arguments)
    raise TypeError(f"the codec knows no type {tp!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{_shown(value)} is not a string")
    if len(value) > MAX_TEXT:
        raise CodecError(f"a string of {len(value)} characters, more than {MAX_TEXT}")
    return value


def _whole(value: Any) -> int:
    if value.__class__ is not int:
        raise CodecError(f"{_shown(value)} is not a whole number")
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise CodecError("a whole number of more than 64 bits")
    return int(value)


def _number(value: Any) -> float:
    if value.__class__ is int and -_INT_LIMIT <= value < _INT_LIMIT:
        return float(value)
    if value.__class__ is not float or value != value or value in (float("inf"), float("-inf")):
        raise CodecError(f"{_shown(value)} is not a number")
    return float(value)


def _truth(value: Any) -> bool:
    if value is not True and value is not False:
        raise CodecError(f"{_shown(value)} is neither true nor false")
    return bool(value)


def _nothing(value: Any) -> None:
    if value is not None:
        raise CodecError(f"{_shown(value)} is not null")


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, CodecError):
            raise
        raise CodecError(f"not base64: {error}") from None


def _anything(value: Any, depth: int = MAX_DEPTH) -> Json:
    """Any JSON within bounds."""
    if depth == 0:
        raise CodecError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return {_text(key): _anything(item, depth - 1) for key, item in _bounded(value).items()}
    if isinstance(value, list):
        return [_anything(item, depth - 1) for item in _bounded(value)]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return value
    return _whole(value) if isinstance(value, int) else _number(value)


def _bounded(value: Any) -> Any:
    if len(value) > MAX_ITEMS:
        raise CodecError(f"{len(value)} items, more than {MAX_ITEMS}")
    return value


_SIMPLE: dict[Any, _Decoder] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    bytes: _bytes,
    type(None): _nothing,
    object: _anything,
    Any: _anything,
}


def _are_texts(values: Iterable[Any]) -> bool:
    """All are strings of an allowed length: most containers are, and need no look at each place."""
    for value in values:  # noqa: SIM110 a generator takes twice as long
        if value.__class__ is not str or len(value) > MAX_TEXT:
            return False
    return True


def _enum_decoder(cls: type[Enum]) -> _Decoder:
    members = {member.value: member for member in cls}

    def run(value: Any) -> Enum:
        found = members.get(value) if isinstance(value, str | int) else None
        if found is None:
            raise CodecError(f"{_shown(value)} is none of {', '.join(map(str, members))}")
        return found

    return run


def _literal_decoder(allowed: tuple[Any, ...]) -> _Decoder:
    def run(value: Any) -> Any:
        for choice in allowed:
            if value.__class__ is choice.__class__ and value == choice:
                return choice
        raise CodecError(f"{_shown(value)} is none of {', '.join(map(str, allowed))}")

    return run


def _union_decoder(arguments: tuple[Any, ...]) -> _Decoder:
    inner = [part for part in arguments if part is not type(None)]
    nullable = len(inner) < len(arguments)
    decoders = [_decoder(part) for part in inner]

    def run(value: Any) -> Any:
        if nullable and value is None:
            return None
        for decoder in decoders[:-1]:
            try:
                return decoder(value)
            except CodecError:
                continue
        return decoders[-1](value)

    return run


def _sequence_decoder(origin: Any, arguments: tuple[Any, ...]) -> _Decoder:
    build: Callable[[Any], Any] = list if origin is list else tuple
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        parts = [_decoder(part) for part in arguments]

        def fixed(value: Any) -> Any:
            if not isinstance(value, list) or len(value) != len(parts):
                raise CodecError(f"{_shown(value)} is not a list of {len(parts)}")
            return tuple(_at(decoder, item, f"[{index}]") for index, (decoder, item) in enumerate(zip(parts, value, strict=True)))

        return fixed
    each = _decoder(arguments[0])

    texts = each is _text

    def run(value: Any) -> Any:
        if not isinstance(value, list):
            raise CodecError(f"{_shown(value)} is not a list")
        if not value or (texts and _are_texts(_bounded(value))):
            return build(value)
        return build([_at(each, item, f"[{index}]") for index, item in enumerate(_bounded(value))])

    return run


def _at(decoder: _Decoder, value: Any, place: str) -> Any:
    try:
        return decoder(value)
    except CodecError as error:
        raise error.inside(place) from None


def _mapping_decoder(arguments: tuple[Any, ...]) -> _Decoder:
    key_of: Callable[[str], Any] = _whole_key if arguments[0] is int else _text
    each = _decoder(arguments[1])

    texts = key_of is _text and each is _text

    def run(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError(f"{_shown(value)} is not an object")
        if texts and _are_texts(_bounded(value)) and _are_texts(value.values()):
            return dict(value)
        return {key_of(key): _at(each, item, f".{str(key)[:40]}") for key, item in _bounded(value).items()}

    return run


def _whole_key(text: str) -> int:
    if not (text.isascii() and text.lstrip("-").isdigit()) or len(text) > 19:
        raise CodecError(f"{_shown(text)} is not a whole number")
    return int(text)


def _dataclass_decoder(cls: type) -> _Decoder:
    hints = typing.get_type_hints(cls)
    plan: list[tuple[str, _Decoder, bool]] = []
    for item in dataclasses.fields(cls):
        if item.metadata.get("stored", True):
            required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            plan.append((item.name, _decoder(hints[item.name]), required))

    def run(value: Any) -> Any:
        if not isinstance(value, dict):
            raise CodecError(f"{_shown(value)} is not an object")
        arguments: dict[str, Any] = {}
        for name, decoder, required in plan:
            if name in value:
                try:
                    arguments[name] = decoder(value[name])
                except CodecError as error:
                    raise error.inside(f".{name}") from None
            elif required:
                raise CodecError(f"field {name!r} is missing")
        return cls(**arguments)

    return run
