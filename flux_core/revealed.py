"""The values of secrets that one attempt was given: kept out of what it wants recorded, and out of what it says.

Values are found as text: as they are, and as JSON, Python and a URL quote them. One that was encoded, hashed or cut in
pieces is not. This module must not outlive its attempt, and no message of it may hold a value.
"""

from __future__ import annotations

from flux_core.errors import SecretExposed
from flux_core.jsontext import parse, quote
from flux_core.redaction import REDACTED, Redaction
from flux_core.secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

SHORTEST: Final = 6
"""Characters: shorter values are not looked for, since they occur by chance."""
_HEAD: Final = 16
"""Characters of a value that are enough to know it by in a message, which may have been cut off after them."""


class Revealed:
    """What `ctx.secret` has handed to one attempt."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, name: str, value: str) -> None:
        """The attempt knows `value` from now on."""
        if len(value) >= SHORTEST:
            self._names[value] = name

    def scrub(self, text: str) -> str:
        """`text` with `[redacted]` in place of every value, whole or cut off."""
        for value in sorted(self._names, key=len, reverse=True):
            forms = _forms(value, quoted="%" in text or "+" in text)
            for form in forms:
                text = text.replace(form, REDACTED)
            for form in forms:
                text = _without_start(text, form)
        return text

    def fields(self, fields: dict[str, object]) -> dict[str, object]:
        """The fields of a log line, scrubbed at every depth."""
        return Redaction((), self.scrub).fields(fields)

    def check(self, step: str, where: str, text: str) -> None:
        """`SecretExposed` if the JSON text of what `step` wants recorded as `where` holds a value."""
        for value, name in list(self._names.items()):
            if quote(value)[1:-1] not in text:
                continue
            place = next(_places(parse(text), value), None)
            if place is not None:
                reference = Secret(name)
                at = self.scrub(f"{where}{place}")
                message = (
                    f"step {step!r}: the value of {reference} would be written to the store, in {at}; keep "
                    f"{reference} there instead, and call ctx.secret({name!r}) in the handler that needs the value"
                )
                raise SecretExposed(message)


def _forms(value: str, *, quoted: bool) -> dict[str, None]:
    """How a value is written in messages, the plain form first; also as a part of a URL with `quoted`."""
    forms = [value, repr(value)[1:-1], ascii(value)[1:-1], quote(value)[1:-1]]
    if quoted:
        from urllib.parse import quote as percent
        from urllib.parse import quote_plus

        forms += percent(value), percent(value, safe=""), quote_plus(value)
    return dict.fromkeys(forms)


def _without_start(text: str, form: str) -> str:
    """`text` without the pieces that `form` begins with."""
    head = form[:_HEAD]
    parts: list[str] = []
    done = 0
    while (at := text.find(head, done)) >= 0:
        parts += text[done:at], REDACTED
        done = at + len(head)
        for wanted, found in zip(form[_HEAD:], text[done:], strict=False):
            if wanted != found:
                break
            done += 1
    return "".join(parts) + text[done:]


def _places(tree: Any, value: str) -> Iterator[str]:
    """Where in the tree of a JSON text a string holds `value`. References do not count: they are names."""
    if isinstance(tree, str):
        if value in tree:
            yield ""
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            for place in _places(item, value):
                yield f"[{index}]{place}"
    elif isinstance(tree, dict):
        for key, part in tree.items():
            if key[:1] == "$" and len(tree) == 1:
                if key == "$type":
                    part = part[1:]  # noqa: PLW2901 -- its first is the name of a class
                    for fields in part:
                        yield from _places(fields, value)
                elif key != "$secret":
                    yield from _places(part, value)
                continue
            shown = f".{key}" if key.isidentifier() else f"[{quote(key)}]"
            if value in key:
                yield shown
            for place in _places(part, value):
                yield f"{shown}{place}"
