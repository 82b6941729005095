"""The keys of callback links, rotated: the text of a secret as it is, made into the text that comes after it.

Functions read a secret at different times, and keep what they have read. So a key is known everywhere before it signs,
and is accepted for a whole period after it has signed. The keys of a text, in their order:

    signing, next, previous          k2, k3, k1
    after a rotation                 k3, k4, k2
    one key alone, and after that    k1  ->  k1, k2  ->  k2, k3, k1

A second key is the next one if the digits of its id make a higher number than those of the first. This module must not
know a cloud, nor read a clock or randomness, and no message of it may show a key.
"""

from __future__ import annotations

from flux_core.callbacks import checked_keys, parsed_keys
from flux_core.errors import DefinitionError, InvocationError
from flux_core.jsontext import write
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    from flux_core.ports import Logger
else:
    Protocol = object

LAG: Final = 86400.0
"""Seconds: a day after a rotation every function has read the new text, and schedules are exact to a day."""

_DAY: Final = 86400.0


class SecretVersion(NamedTuple):
    """One version of a secret in a cloud's store of secrets."""

    text: str
    created: float
    """Seconds since the epoch."""

    def __repr__(self) -> str:
        return f"SecretVersion(text='[redacted]', created={self.created!r})"


class Versions(Protocol):
    """Those of one secret."""

    def newest(self) -> SecretVersion:
        """The one that was added last."""

    def add(self, text: str) -> None:
        """Another one, which is the newest from then on."""


def rotate_newest(
    versions: Versions, name: str, period: float, now: float, secret: str, logger: Logger
) -> float | None:
    """Add the text that comes after the newest, if that is old enough: None if so, else the seconds that are left.

    `name` is what the log calls the secret; `period` and `now` (since the epoch) are seconds; `secret` is the key that
    is added. Two at once do no harm: what signs next is the same in both texts.
    """
    newest = versions.newest()
    age = now - newest.created
    if not due(newest.text, age, period):
        return period - age
    after = rotated(newest.text, secret)
    versions.add(after)
    logger.info("the keys are rotated", secret=name, keys=len(parsed_keys(after)), another_signs=switches(newest.text))
    return None


def rotated(text: str, secret: str) -> str:
    """The text after `text`, in the same form; `secret` is the key that is added, at least 32 characters.

    With a next key: that one signs, the one that has signed is accepted on, and older ones are dropped. Without: the
    key that signs goes on, the new one is next, and nothing is dropped. `DefinitionError` for a text of another form.
    """
    keys = checked_keys(parsed_keys(text))
    signing, *others = keys
    name = f"k{max(map(_number, keys)) + 1}"
    order = [others[0], name, signing] if switches(text) else [signing, name, *others]
    known = {**keys, name: secret}
    after = checked_keys({one: known[one] for one in order})
    if text.lstrip().startswith("{"):
        return write(dict(after))
    return ",".join(f"{one}:{key}" for one, key in after.items())


def switches(text: str) -> bool:
    """Whether a rotation of `text` has another key sign; otherwise it only adds one. Errors as those of `rotated`."""
    signing, *others = checked_keys(parsed_keys(text))
    return bool(others) and _number(others[0]) > _number(signing)


def due(text: str, age: float, period: float) -> bool:
    """Whether `text`, which is `age` seconds old, is to be rotated: at once if it has no next key, else by `period`."""
    return not switches(text) or age >= period


def follows(text: str, current: str) -> bool:
    """Whether `text` may take the place of `current`: what signs then is a key that is known now."""
    keys, known = checked_keys(parsed_keys(text)), checked_keys(parsed_keys(current))
    signing = next(iter(keys))
    return known.get(signing) == keys[signing]


def checked_period(period: float, expires: float, name: str) -> float:
    """The period, if links that live for `expires` seconds outlive no key; `DefinitionError` tells to change `name`."""
    if period < expires + LAG:
        message = (
            f"{name} says that callback keys are rotated every {_days(period)}, and callback links live for "
            f"{_days(expires)} (FLUX_CALLBACK_EXPIRES): a period has to be at least a day longer than a link may "
            f"live, so set it to {_days(expires + LAG)} or more"
        )
        raise DefinitionError(message)
    return period


def checked_age(text: str, age: float, expires: float) -> None:
    """`InvocationError` if rotating `text`, which is `age` seconds old, would end links that still live."""
    if switches(text) and age < expires:
        message = (
            f"the callback keys were changed {_days(age)} ago, and links live for {_days(expires)} "
            f"(FLUX_CALLBACK_EXPIRES): rotating them now would end links that still live. Rotate them later; if a key "
            f"has leaked, put a new one alone into the secret instead"
        )
        raise InvocationError(message)


def _number(name: str) -> int:
    return int("".join(one for one in name if one in "0123456789") or 0)


def _days(seconds: float) -> str:
    if seconds < _DAY:
        return f"{seconds / 3600:.1f} hours"
    days = round(seconds / _DAY, 1)
    return "1 day" if days == 1 else f"{days:g} days"
