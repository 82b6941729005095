"""Requests that nobody should send: recorded ones, cut, bent and stuffed by a seeded generator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from tests.gcp.requests import Recorded

NAMES = (
    *(
        "",
        " ",
        ".",
        "..",
        "../..",
        "%2e%2e%2f",
        "%",
        "%zz",
        "%00",
        "\x00",
        "\u202e",
        "a" * 129,
        "a" * 5_000,
        "__proto__",
    ),
    *(
        "__x__",
        "order ",
        "ordér",
        "order/../order",
        "a#b",
        "M/x",
        "null",
        "{",
        "[",
        '"',
        "\r\nset-cookie: a=b",
        "🍵" * 40,
    ),
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        2**63,
        10**400,
        0.5,
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        {"": None},
        "",
        "\ud800",
    ),
    *("a" * 300_000, "../..", "\x00", {"$decimal": "x"}, {"$type": "os.system"}, ["execute"], {"action": "sweep"}),
)
BODIES = (
    *(
        b"",
        b" ",
        b"null",
        b"nul",
        b"[]",
        b"1",
        b'""',
        b"{}",
        b"{} {}",
        b"{'a': 1}",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"-",
    ),
    *(b"[" * 1_000, b'{"a":' * 1_000, b"[" * 1_000 + b"]" * 1_000, b'{"a":' * 1_000 + b"1" + b"}" * 1_000),
    *(b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"\x00", b"\x80", b'"\\ud800"', b'{"a":1,"a":2}', b"1" * 10_000),
    *(b"a=1&b=2", b"<xml/>", b'{"action": "execute", "workflow": "order", "input": "' + b"x" * 300_000 + b'"}'),
    *(
        b'{"action": "wake"}',
        b'{"action": {}}',
        b'{"action": "sweep", "limit": 1e9}',
        b'{"action": "list", "limit": -1}',
    ),
    b'{"action": "execute", "workflow": "order", "id": "../..", "input": {}}',
    b'{"action": "wake", "tenant": "__other__", "workflow": "order", "id": "1", "hops": -1}',
)


def bent(event: Recorded, chance: random.Random) -> tuple[Recorded, bytes, int | None]:
    """An event with one to three things wrong with it, its body, and the length that it announces if that is wrong."""
    body, announced = event.body.encode(), None
    for _ in range(chance.randint(1, 3)):
        match chance.randrange(9):
            case 0:
                body = body[: chance.randrange(len(body) + 1)]
            case 1:
                body = chance.choice(BODIES)
            case 2:
                body = body.decode("latin-1").encode(chance.choice(["utf-16", "utf-32-be", "utf-7"]))
            case 3:
                announced = chance.choice([0, len(body) + 1, 10**9])
            case 4:
                event = event._replace(path=_path(event.path, chance))
            case 5:
                event = event._replace(method=chance.choice(["GET", "PUT", "DELETE", "PATCH", "HEAD", "X", "post"]))
            case 6:
                event = event._replace(
                    query=f"{chance.choice(['mode', 'limit', 'include', 'x'])}={chance.choice(NAMES)}"
                )
            case 7:
                event = event._replace(headers=_headers(event.headers, chance))
            case _:
                body = _bent_json(body, chance)
    return event, body, announced


def bent_value(value: Any, chance: random.Random) -> Any:
    """A JSON value with one place of it changed, gone, or named otherwise."""
    places = list(_places(value))
    if not places or chance.random() < 0.05:
        return chance.choice(VALUES)
    parent, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(NAMES)] = parent.pop(key)
        case 2 if isinstance(parent[key], str):
            parent[key] = chance.choice(NAMES)
        case _:
            parent[key] = chance.choice(VALUES)
    return value


def _bent_json(body: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body + b"}"
    return json.dumps(bent_value(value, chance)).encode()


def _path(path: str, chance: random.Random) -> str:
    parts = path.split("/")
    parts[chance.randrange(len(parts))] = chance.choice(NAMES)
    return "/" + "/".join(parts).lstrip("/")


def _headers(headers: Any, chance: random.Random) -> dict[str, str]:
    found = dict(headers)
    name = chance.choice([*found, "Idempotency-Key", "Traceparent", "X-Cloud-Trace-Context", "Content-Type"])
    found[name] = chance.choice(NAMES)
    if chance.random() < 0.3:
        del found[chance.choice([*found])]
    return found


def _places(value: Any) -> Any:
    """Every place in it that holds something, not too deep."""
    todo = [value]
    for one in todo:
        inside = list(one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ())
        for key, each in inside:
            yield one, key
            if len(todo) < 200:
                todo.append(each)
