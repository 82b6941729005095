"""Events that nobody should send: what is recorded, cut, bent and stuffed by a seeded generator."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

HOSTILE_TEXTS = (
    "", " ", ".", "..", "../..", "%2e%2e%2f", "%", "%00", "\x00", "\ud800", "\udfff\ud800", "\u202e", "\ufeff",
    "ä" * 300, "a" * 129, "a" * 5_000, "__proto__", "__x__", "order ", "order/../order", "a#b", "L#0000000000",
    "M/x", "null", "NaN", "{", "[", '"', "'; drop table", "${jndi:ldap://x}", "{{7*7}}", "1e400", "-1",
    "\r\nset-cookie: a=b", "🍵" * 40,
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, 10**400, 0.1, math.nan, math.inf, [], {}, [[]], [None], {"": None},
    {"a": {"a": 1}},
)  # fmt: skip
HOSTILE_BODIES = (
    "[" * 1_000, '{"a":' * 1_000, "[" * 1_000 + "]" * 1_000, '{"a":' * 1_000 + "1" + "}" * 1_000, "\ud800", '"\ud800"',
    '"\\ud800"', "\xff\xfe{}", "{} {}", "nul", "tru", "1e999", "-", "0x1", "NaN", "[NaN]", "Infinity", "{'a': 1}",
    "\ufeff{}", '{"a":1,"a":2}', "\x00", "a=1&b=2", "<xml/>", "1" * 10_000, '{"action":"sweep","limit":1e9}',
    '{"action":"wake"}',
    '{"action":"wake","tenant":"other","workflow":"order","id":"o-1"}', '{"action":"list","limit":-1}',
    '{"action":"execute","workflow":"order","id":"../..","input":{}}', '{"action":["execute"]}', '{"action":{}}',
    '{"action":"get","workflow":"order","id":"o\\ud800"}',
    '{"action":"signal","workflow":"order","id":"o-1","name":"\\u0000"}',
)  # fmt: skip


def nested(depth: int) -> Any:
    """Lists and objects by turns, `depth` deep."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def bent(event: Any, chance: random.Random) -> Any:
    """A copy of `event` with up to three things wrong with it."""
    found = json.loads(json.dumps(event))
    for _ in range(chance.randint(1, 3)):
        found = _bend(found, chance)
    return found


def _bend(event: Any, chance: random.Random) -> Any:
    place = _place(event, chance)
    if place is None or chance.random() < 0.01:
        return hostile(chance)
    parent, key = place
    value = parent[key]
    match chance.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(value, str) and value:
            parent[key] = _cut(value, chance)
        case 2 if isinstance(value, str):
            parent[key] = chance.choice(HOSTILE_BODIES if key == "body" else HOSTILE_TEXTS)
        case 3 if isinstance(parent, dict):
            parent[chance.choice(HOSTILE_TEXTS)] = value
        case _:
            parent[key] = hostile(chance)
    return event


def _cut(text: str, chance: random.Random) -> str:
    """Its beginning, or with something in its middle or in place of a part of its path."""
    at = chance.randrange(len(text))
    match chance.randrange(3):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + chance.choice(HOSTILE_TEXTS) + text[at:]
        case _:
            parts = text.split("/")
            parts[chance.randrange(len(parts))] = chance.choice(HOSTILE_TEXTS)
            return "/".join(parts)


def hostile(chance: random.Random) -> Any:
    """Anything at all."""
    match chance.randrange(20):
        case 0:
            return nested(1_000)
        case 1:
            return "x" * 300_000
        case 2:
            return json.dumps({"action": "execute", "workflow": "order", "input": "x" * 300_000})
        case number if number < 10:
            return chance.choice(HOSTILE_TEXTS)
        case _:
            return copy.deepcopy(chance.choice(HOSTILE_VALUES))


def _place(value: Any, chance: random.Random) -> tuple[Any, Any] | None:
    """Some place in it that holds something: half of them at the top, as what decides is there."""
    found = None
    while isinstance(value, dict | list) and value:
        key = chance.choice([*value] if isinstance(value, dict) else range(len(value)))
        found, value = (value, key), value[key]
        if chance.random() < 0.5:
            break
    return found
