"""JSON text, written and read by the interpreter's own C code without the 5 ms that importing `json` costs.

`json` is a thin layer over `_json`, but importing it brings in `re`, `enum` and `functools`, and start-up is what a
function pays for. Where there is no `_json` (PyPy) `json` itself is used. This module must not know tags or records.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Writer = Callable[[Any, int], Iterable[str]]
    """From a value and 0 to pieces of its text."""
    Kit = tuple[Callable[[str], str], Callable[[str, int], tuple[Any, int]], Callable[..., Writer]]
    """A string's text (all but control characters stay as they are); the value that begins at an index of a text, with
    the index after it (`StopIteration` or `ValueError` if none does); and `writer(ordered=...)`."""

_SEPARATORS = (",", ":")


def _refuse_constant(name: str) -> object:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _refuse_value(value: object) -> object:
    message = f"a value of type {type(value).__name__} is not JSON"
    raise TypeError(message)


class _Grammar:
    """What the scanner asks for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 -- read by the C code, which keeps its own


def accelerated() -> Kit:
    """Quote, scan and writer from the interpreter's C code; `ImportError` where it has none."""
    import _json

    def writer(*, ordered: bool) -> Writer:
        skip_keys = allow_nan = False
        # Without markers a circular value ends in RecursionError.
        return _json.make_encoder(
            None, _refuse_value, _json.encode_basestring, None, ":", ",", ordered, skip_keys, allow_nan
        )

    scan: Any = _json.make_scanner(_Grammar)  # type: ignore[arg-type]  # it reads attributes, of whatever object
    return _json.encode_basestring, scan, writer


def plain() -> Kit:
    """The same from `json`."""
    import json

    def writer(*, ordered: bool) -> Writer:
        encode = json.JSONEncoder(
            ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=ordered, separators=_SEPARATORS
        ).encode
        return lambda value, _level: (encode(value),)

    scan: Any = json.JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]  # since 2.6
    return json.encoder.encode_basestring, scan, writer


try:
    quote, scan, writer = accelerated()
except ImportError:
    quote, scan, writer = plain()
chunks = writer(ordered=False)
sorted_chunks = writer(ordered=True)


def write(value: object) -> str:
    """The text of a value of JSON types. `TypeError` or `ValueError` for any other."""
    return "".join(chunks(value, 0))


def parse(text: str) -> Any:
    """The value of a whole text, white space around it or not.

    `ValueError` if it is not JSON, `RecursionError` if it is nested too deeply.
    """
    bare = text.strip(" \t\n\r")
    try:
        value, end = scan(bare, 0)
    except StopIteration as stop:
        message = f"no JSON value at character {stop.value}"
        raise ValueError(message) from None
    except SystemError as error:  # before 3.13 the C code cannot raise json's own error unless json was imported
        message = "it is cut off or damaged"
        raise ValueError(message) from error
    if end != len(bare):
        message = f"something follows the JSON value at character {end}"
        raise ValueError(message)
    return value
