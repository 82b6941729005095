"""Events that nobody should send: recorded ones, damaged at random from a seed."""

from __future__ import annotations

import base64
import json
import random
from typing import Any, Final

from tests.azure.in_process import EVENTS, recorded

DEEP: Final = 1000
_LETTERS: Final = "\x00\x1f\"'\\/%{}[]:,;.?#&=+- \n\r\té€😀\ud800"
_NAMES: Final = (
    *("", ".", "..", "__proto__", "order", "order-1", "approved", "a" * 129, "%2e%2e", "%00", "%ff", "%", "..%2f..%2f"),
    *("L#0000000001", "order/L/0", "' OR 1=1 --", "\u202eorder", "ördér", "order\x00", "-1", "1e309", "NaN", "null"),
)
_TEXTS: Final = (
    *("", " ", "null", "true", "1", "-0", "NaN", "1e999", '"text"', "[]", "{}", "{", "[" * DEEP, '{"a":' * DEEP),
    *("[" * DEEP + "]" * DEEP, '{"action": null}', '{"action": []}', '{"action": "execute"}', '{"action": "wake"}'),
    *('{"action": "sweep", "limit": -1}', '{"action": "sweep", "limit": 1e999}', '{"a": 1, "a": 2}', "\ufeff{}"),
    *('{"action": "get", "workflow": "order", "id": {"$ne": null}}', '{"action": "list", "cursor": "x"}'),
    *('{"action": "execute", "workflow": "order", "input": {"$decimal": "x"}}', "9" * 5000, '{"action": "\\ud800"}'),
    '{"action": "signal", "workflow": "order", "id": "order-1", "name": "approved", "payload": ' + "[" * DEEP + "}",
)
_ACTIONS: Final = ("execute", "signal", "wake", "get", "list", "cancel", "retry_step", "sweep")
_FIELDS: Final = ("input", "mode", "include", "tenant", "hops", "force", "data", "step", "payload")


class Hostile:
    """A source of events. The same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._events = [json.loads((EVENTS / f"{name}.json").read_text()) for name in recorded()]

    def http(self) -> tuple[str, dict[str, Any]]:
        """A function and a request for it."""
        event = self._one("http")
        request = event["inputData"][0]["data"]["http"]
        for _ in range(self._chance.randint(1, 3)):
            match self._chance.randrange(6):
                case 0:
                    request["method"] = self._chance.choice(["GET", "POST", "get", "DELETE", "", "\x00", "PO ST"])
                case 1:
                    request["url"] = self._path(request["url"])
                case 2:
                    request["query"] = self._mapping(["mode", "include", "limit", "cursor", "status", "code"])
                case 3:
                    request["headers"] |= self._mapping(["idempotency-key", "content-type", "content-length", "host"])
                case _:
                    content = base64.b64encode(self.body()).decode()
                    request["body"] = {"bytes": content}
        return event["function"], {"http": request}

    def queue(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A message and its metadata."""
        event = self._one("queue")
        body = self.body()
        if self._chance.random() < 0.3:
            body = base64.b64encode(body)
        metadata = event["triggerMetadata"]
        metadata["DequeueCount"] = {"json": str(self._chance.choice([0, 1, 5, 2**31, -1]))}
        if self._chance.random() < 0.5:
            return {"string": body.decode(errors="replace")}, metadata
        return {"bytes": base64.b64encode(body).decode()}, metadata

    def timer(self) -> dict[str, Any]:
        """What the timer says."""
        event = self._one("timer")
        told = json.loads(event["inputData"][0]["data"]["json"])
        for name in self._chance.sample(sorted(told), self._chance.randint(1, len(told))):
            told[name] = self._chance.choice([None, 1, "x", [], {}, {"Last": 5}, [[[]]], "9999-99-99", self._name()])
        if self._chance.random() < 0.3:
            told.pop(self._chance.choice(sorted(told)))
        return {"json": json.dumps(told)}

    def body(self) -> bytes:
        """A truncated, wrongly encoded, wrongly typed, giant or deeply nested body."""
        text = self._chance.choice(_TEXTS) if self._chance.random() < 0.4 else self._damaged()
        encoding = self._chance.choice(["utf-8"] * 6 + ["utf-16", "utf-8-sig"])
        data = text.encode(encoding, "surrogatepass")
        match self._chance.randrange(12):
            case 0:
                return data[: self._chance.randint(0, len(data))]
            case 1:
                at = self._chance.randint(0, len(data))
                return data[:at] + self._chance.randbytes(self._chance.randint(1, 8)) + data[at:]
            case 2 if self._chance.random() < 0.02:
                return data + b" " * 300_000
            case 3:
                return self._chance.randbytes(self._chance.randint(0, 64))
        return data

    def _one(self, kind: str) -> dict[str, Any]:
        names = {"http": ("flux_workflows", "flux_invoke", "flux_callbacks"), "queue": ("flux_work",)}
        of_kind = [one for one in self._events if one["function"] in names.get(kind, ("flux_sweep",))]
        event: dict[str, Any] = json.loads(json.dumps(self._chance.choice(of_kind)))
        return event

    def _name(self) -> str:
        if self._chance.random() < 0.7:
            return self._chance.choice(_NAMES)
        return "".join(self._chance.choice(_LETTERS) for _ in range(self._chance.randint(0, 12)))

    def _path(self, url: str) -> str:
        parts = url.split("/")
        for _ in range(self._chance.randint(1, 3)):
            at = self._chance.randrange(len(parts) + 1)
            match self._chance.randrange(3):
                case 0:
                    parts.insert(at, self._name())
                case 1 if at < len(parts):
                    parts[at] = self._name()
                case _ if at < len(parts):
                    del parts[at]
        return "/".join(parts)

    def _mapping(self, names: list[str]) -> dict[str, str]:
        return {self._chance.choice([*names, self._name()]): self._name() for _ in range(self._chance.randint(0, 4))}

    def _damaged(self) -> str:
        """An invocation of which, mostly, one field is something else."""
        tree: dict[str, Any] = {"action": self._chance.choice(_ACTIONS)}
        if tree["action"] not in {"sweep", "list"}:
            tree |= {"workflow": "order", "id": "order-1"}
        if tree["action"] == "signal":
            tree["name"] = "approved"
        if self._chance.random() < 0.3:
            return json.dumps(tree)
        field = self._chance.choice([*tree, *_FIELDS, self._name()])
        tree[field] = self._chance.choice([None, True, 0, -1, 1e300, 2**70, [], {}, [{}], {"": ""}, self._name()])
        return json.dumps(tree)
