"""One operation of a case as the rules see it: what we observed, and what is expected of us so far.

It must not contain a rule; those are in the `rules_*` modules, and `known.py` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.behaviours import real_ms
from tests.conformance.groups import flat, siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Json = dict[str, Any]
    Parts = dict[str, Any]

RETRIES = 3
"""What a step is tried again if neither it nor the engine says otherwise: the same number in both engines."""
ENDED_BADLY = frozenset({"failed", "rolled_back"})


ORDERED = ("handlers", "trace", "hooks")


def unordered(op: Json) -> bool:
    """Whether the operation runs several instances at a time, so that the order of events means nothing."""
    return op["op"] == "executeBatch" and op.get("options", {}).get("concurrency") != 1


class View:
    """One operation of a case: what we observed, and the original's observation as rewritten so far."""

    def __init__(
        self,
        case: Json,
        ours: list[Parts],
        original: list[Parts],
        threw: list[str | None],
        rerun: Callable[[Json], list[Parts]],
    ) -> None:
        self.case = case
        self.all_ours = ours
        self.original = original
        self.expected: list[Parts] = []
        self._threw = threw
        self._rerun = rerun
        self.index = 0
        self.theirs: Parts = {}

    def look_at(self, index: int, theirs: Parts) -> None:
        """Go on to an operation. A `get` is expected to tell what the verb before it is expected to tell."""
        self.index = index
        self.theirs = theirs
        if self.op["op"] != "get" or "status" not in theirs:
            return
        last = next((place for place in reversed(range(index)) if "status" in self.original[place]), None)
        if last is not None:
            for part in ("status", "steps", "data"):
                if theirs[part] == self.original[last][part] and part in self.expected[last]:
                    theirs[part] = self.expected[last][part]

    @property
    def ours(self) -> Parts:
        return self.all_ours[self.index]

    @property
    def op(self) -> Json:
        found: Json = self.case["ops"][self.index]
        return found

    @property
    def threw(self) -> str | None:
        """The type of the error that our engine raised."""
        return self._threw[self.index]

    @property
    def config(self) -> Json:
        found: Json = self.case.get("config", {})
        return found

    @property
    def steps(self) -> list[Json]:
        """The steps of the workflow that the operation names, members in the place of their groups."""
        return flat(self.spec["steps"])

    @property
    def spec(self) -> Json:
        key = self.op.get("workflow")
        for other in self.case.get("otherWorkflows", ()):
            if key is not None and other.get("key", other["name"]) == key:
                found: Json = other
                return found
        main: Json = self.case["workflow"]
        return main

    @property
    def members(self) -> dict[str, tuple[int, int]]:
        """By name of a step in a group, the number of the group and its own in that."""
        return siblings(self.spec["steps"])

    def step(self, name: str) -> Json:
        return next((step for step in self.steps if step.get("name") == name), {})

    @property
    def before(self) -> Parts:
        """Our last look at the instance before this operation; empty if there was none."""
        return next((parts for parts in reversed(self.all_ours[: self.index]) if "status" in parts), {})

    def without(self, *settings: str) -> Parts:
        """What our engine does here if the case lacks some of its settings."""
        config = {key: value for key, value in self.config.items() if key not in settings}
        return self._rerun({**self.case, "config": config})[self.index]

    def replace(self, **parts: Any) -> None:
        self.theirs.clear()
        self.theirs.update({"outcome": "result", "handlers": [], "trace": [], "hooks": []} | parts)

    def accept(self) -> None:
        """Expect what we did: for rules whose predicate says all there is to say."""
        self.theirs.clear()
        self.theirs.update(self.ours)

    def retries(self, step: Json) -> int:
        retries = step.get("retries", self.config.get("defaultRetries"))
        return RETRIES if retries is None else int(retries)


def written_by(step: Json) -> set[str]:
    """The keys of data that a step's handler writes."""
    keys: set[str] = set()
    for behaviour in step.get("do", ()):
        keys |= set(behaviour.get("set", {})) | set(behaviour.get("replaceData", {}))
        keys |= {behaviour[word] for word in ("incr", "append", "into") if word in behaviour}
    return keys


def overdue(view: View, step: Json) -> bool:
    """Whether the step's handler takes longer than its time limit."""
    limit = step.get("timeout", view.config.get("defaultTimeout"))
    slept = sum(real_ms(behaviour.get("sleep", 0)) for behaviour in step.get("do", ()))
    return limit is not None and slept > real_ms(limit)


def runs(handlers: Iterable[str]) -> list[str]:
    """The steps whose handlers ran, in order."""
    return [entry[4:].rpartition("#")[0] for entry in handlers if entry.startswith("run:")]


def take_ours(view: View, keys: set[str]) -> None:
    """Expect our values of some keys of data."""
    ours, theirs = view.ours.get("data"), view.theirs.get("data")
    if isinstance(ours, dict) and isinstance(theirs, dict):
        expected = {key: value for key, value in theirs.items() if key not in keys}
        view.theirs["data"] = expected | {key: ours[key] for key in keys & set(ours)}
