"""Callback tokens: links by which somebody outside answers one wait of one instance (PROTOCOL, Security).

A token is signed, expires, and is bound to the occurrence of the step that handed it out: a step that is retried hands
out another one, and the old one says that it is spent. That it counts once follows from the mailbox: all uses of a
token are the same mail. Whoever has a token can read what it says, but not change it. This module must not read a
store, a clock or an environment, and no message or repr of it may show a key.

    <what it says, as base64url>.<HMAC-SHA256 of these characters, as base64url>
"""

from __future__ import annotations

from flux_core.errors import CallerError, DefinitionError, ExpiredToken, InvalidToken
from flux_core.jsontext import parse, write
from flux_core.retry import seconds
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from typing import Final

    Keys = Mapping[str, str] | Callable[[], Mapping[str, str]]

_FORM: Final = 1
_SHORTEST_KEY: Final = 32
_LONGEST_TOKEN: Final = 4096
_FIELDS: Final = (int, str, str, str, str, str, str, int, int, int)


class Ticket(NamedTuple):
    """What a token says."""

    tenant: str
    workflow: str
    id: str
    signal: str
    path: str
    """Of the step that handed it out."""
    occurrence: int
    """How many successes of that step had been undone or discarded by then: the `k` of its idempotency key."""
    generation: int
    """How often the instance had been retried by hand."""
    expires: int
    """Milliseconds since the epoch."""

    @property
    def dedupe_id(self) -> str:
        """Of the signal that it sends: the same for all tokens of one occurrence, those of repeated attempts too."""
        return f"callback:{len(self.path)}:{self.path}:{self.occurrence}:{self.signal}"


class Callbacks:
    """Makes and reads tokens: `FluxEngine(callbacks=Callbacks("https://api.example.com", {"k1": key}))`."""

    def __init__(self, url: str, keys: Keys, expires: float | timedelta = 7 * 86400.0) -> None:
        """`url` is where the routes of Flux are served; links are `{url}/callbacks/{token}`.

        `keys`: from key id to a secret of at least 32 characters, or a function that returns that; the first one
        signs, all are accepted, so that keys can be changed. `expires`: seconds or timedelta from when a token is
        made; `ctx.callback_url(..., expires=)` may say otherwise. `DefinitionError` if the url is none.
        """
        if not url.startswith(("https://", "http://")):
            message = f"Callbacks(url=...) is where the routes are served, such as https://api.example.com; got {url!r}"
            raise DefinitionError(message)
        self._url = url.rstrip("/")
        self._keys = keys
        self.expires = seconds(expires, "Callbacks(expires=...)")

    def url(self, ticket: Ticket) -> str:
        """The link."""
        return f"{self._url}/callbacks/{self.token(ticket)}"

    def token(self, ticket: Ticket) -> str:
        """The token; `DefinitionError` if there is no key, one that is too short, or a path too long for a link."""
        key_id, key = next(iter(self._known().items()))
        said = _text(write([_FORM, key_id, *ticket]).encode())
        token = f"{said}.{_signature(key, said)}"
        if len(token) > _LONGEST_TOKEN:
            message = (
                f"a callback link of step {ticket.path[:80]!r}... of workflow {ticket.workflow!r} would be longer than "
                f"gateways take ({_LONGEST_TOKEN} characters); make the names of its steps shorter, or nest it less"
            )
            raise DefinitionError(message)
        return token

    def read(self, token: str, now: int) -> Ticket:
        """What a token says. `InvalidToken` if it was not signed with one of the keys, `ExpiredToken` if it is old."""
        said, _, signature = token.partition(".")
        try:
            fields = parse(_bytes(said).decode()) if len(token) <= _LONGEST_TOKEN and token.isascii() else None
        except (ValueError, RecursionError):
            fields = None
        if (
            type(fields) is not list
            or tuple(type(field) for field in fields) != _FIELDS
            or fields[0] != _FORM
            or (key := self._known().get(fields[1])) is None
            or not _same(signature, _signature(key, said))
        ):
            message = "this callback token is not valid; use the link exactly as it was sent"
            raise InvalidToken(message)
        ticket = Ticket(*fields[2:])
        if now >= ticket.expires:
            message = "this callback link has expired; ask whoever sent it for a new one"
            raise ExpiredToken(message)
        return ticket

    def _known(self) -> Mapping[str, str]:
        return checked_keys(self._keys() if callable(self._keys) else self._keys)


def checked_keys(keys: Mapping[str, str]) -> Mapping[str, str]:
    """The keys, if there are any and they are long enough; `DefinitionError` says which is not."""
    if not keys:
        message = 'there is no key to sign callback tokens with; give Callbacks(url, {"k1": "32 random characters"})'
        raise DefinitionError(message)
    for number, key in enumerate(keys.values(), 1):
        if len(key) < _SHORTEST_KEY:
            # By its place: who has mixed up the two has a secret for a name.
            message = (
                f"callback key number {number} has {len(key)} characters, but needs at least {_SHORTEST_KEY}; make one "
                f"with `openssl rand -hex 32`, and give it as the value of its id"
            )
            raise DefinitionError(message)
    return keys


def parsed_keys(text: str) -> dict[str, str]:
    """Keys as settings write them, `k2:secret,k1:secret`; the first one signs. `DefinitionError` for any other form.

    Or as an object, `{"k2": "secret", "k1": "secret"}`: what a cloud's store of secrets makes and shows.
    """
    if text.lstrip().startswith("{"):
        return _keys_of_object(text)
    keys: dict[str, str] = {}
    for pair in text.split(","):
        name, colon, key = pair.strip().partition(":")
        if not colon or not name or name in keys:
            message = (
                "callback keys are written id:secret[,id:secret], each id once, the one that signs first; make a "
                "secret with `openssl rand -hex 32`"
            )
            raise DefinitionError(message)
        keys[name] = key
    return keys


def _keys_of_object(text: str) -> dict[str, str]:
    try:
        tree = parse(text)
    except ValueError:
        tree = None
    if type(tree) is not dict or not all(name and type(key) is str for name, key in tree.items()):
        message = 'callback keys as an object are written {"id": "secret"}, the one that signs first'
        raise DefinitionError(message)
    return tree


def spent(ticket: Ticket) -> CallerError:
    """The error for a token of an occurrence that is over."""
    message = (
        f"this callback link was sent by an earlier run of step {ticket.path!r}, which has been undone or retried "
        f"since; use the link that was sent last"
    )
    return ExpiredToken(message)


def _signature(key: str, said: str) -> str:
    from hmac import digest

    return _text(digest(key.encode(), said.encode(), "sha256"))


def _same(given: str, right: str) -> bool:
    from hmac import compare_digest

    return compare_digest(given.encode(), right.encode())


def _text(raw: bytes) -> str:
    from binascii import b2a_base64

    return b2a_base64(raw, newline=False).decode().rstrip("=").replace("+", "-").replace("/", "_")


def _bytes(text: str) -> bytes:
    from binascii import a2b_base64

    return a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), strict_mode=True)
