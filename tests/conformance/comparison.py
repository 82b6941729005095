"""Reduces observations to the parts that are compared, and compares ours with what one build of the original did.

Decisive: whether an operation returned or threw, statuses, step statuses and retries, data, handler order, and trace
event order (type and step). Noted besides: hook order and back-off delays; one that is not accounted for counts all
the same. Not compared: error texts, times, versions, saves.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conformance.groups import flat, in_order, siblings
from tests.conformance.interpreter import run_case
from tests.conformance.known import CLASSES
from tests.conformance.view import ORDERED, View, unordered

if TYPE_CHECKING:
    from collections.abc import Mapping

    Json = dict[str, Any]
    Parts = dict[str, Any]

UNSUPPORTED = "UNSUPPORTED"
NOTED = frozenset({"hooks", "backoff"})
"""Parts that do not make a case deliberate by themselves."""


class Difference(NamedTuple):
    """One part of one operation that differs. `where` is `2 retryStep` (counted from 1), or `case`."""

    where: str
    part: str
    ours: Any
    theirs: Any
    explained: bool

    @property
    def key(self) -> str:
        return f"{self.where} {self.part}"


class Comparison(NamedTuple):
    """Our observation beside that of one build. `classes` are the known classes that explain differences."""

    build: str
    differences: list[Difference]
    classes: list[str]

    @property
    def decisive(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.part not in NOTED]

    @property
    def unexplained(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.explained]

    @property
    def verdict(self) -> str:
        if self.unexplained:
            return "DIFFERENT"
        return "deliberate" if self.decisive else "same"


def compare(case: Json, ours: Json) -> Comparison | None:
    """The comparison with the build that we are nearest to; None if no build of the original can run the case."""
    found = [
        _with_build(case, ours, build, theirs)
        for build, theirs in case.get("observed", {}).items()
        if "ops" in theirs and "ops" in ours
    ]
    return min(found, key=lambda one: (len(one.unexplained), len(one.decisive), len(one.differences)), default=None)


def _with_build(case: Json, ours: Json, build: str, theirs: Json) -> Comparison:
    mine, other = _parts(case, ours), _parts(case, theirs)
    differences: list[Difference] = []
    credited: dict[str, None] = {}
    course: list[str] = []
    view = View(case, mine, other, [_threw(record) for record in ours["ops"]], _rerun)
    for index, op in enumerate(case["ops"]):
        rewritten = copy.deepcopy(other[index])
        if rewritten == mine[index]:
            view.expected.append(rewritten)
            continue
        # After an operation that took another course on purpose, what follows is about another history.
        follows = bool(course)
        view.look_at(index, rewritten)
        for known in CLASSES:
            before = copy.deepcopy(rewritten)
            if before == mine[index]:
                break
            turns = known.rewrite(view)
            _put_in_order(case, rewritten)
            if rewritten != before:
                credited[known.name] = None
                if turns:
                    course.append(known.name)
        view.expected.append(rewritten)
        where = f"{index + 1} {op['op']}"
        for part in _union(mine[index], other[index]):
            if mine[index].get(part) != other[index].get(part):
                agreed = mine[index].get(part) == rewritten.get(part)
                differences.append(
                    Difference(where, part, mine[index].get(part), other[index].get(part), agreed or follows)
                )
    delays = ours.get("backoffDelaysMs", []), theirs.get("backoffDelaysMs", [])
    if delays[0] != delays[1]:
        differences.append(Difference("case", "backoff", *delays, bool(set(credited) & _CHANGE_DELAYS)))
    return Comparison(build, differences, list(credited))


_CHANGE_DELAYS = frozenset(
    {"conditions", "compensations", "hooks", "refused-verbs", "kept-signals", "retry-after-rollback", "unknown-outcome"}
)
"""Classes by which a step or compensation is tried again more, or less, often than in the original."""


def _rerun(case: Json) -> list[Parts]:
    return _parts(case, run_case(case))


def _parts(case: Json, observation: Json) -> list[Parts]:
    """The parts of every operation; those of a batch that runs several at a time are in no particular order."""
    found = []
    for op, record in zip(case["ops"], observation["ops"], strict=True):
        parts = parts_of(case, record)
        found.append(parts | {part: sorted(parts[part]) for part in ORDERED} if unordered(op) else parts)
    return found


def _threw(record: Json) -> str | None:
    return record["threw"]["type"] if "threw" in record else None


def _union(one: Parts, other: Parts) -> list[str]:
    return list(dict.fromkeys([*one, *other]))


def parts_of(case: Json, record: Mapping[str, Any]) -> Parts:
    """The compared parts of one operation's record, ours or theirs."""
    parts: Parts = {"outcome": "result"}
    result = record.get("result")
    if "threw" in record:
        parts["outcome"] = "threw"
    elif "unsupported" in record or result == UNSUPPORTED:
        parts["outcome"] = "unsupported"
    elif result is None:
        parts["outcome"] = "nothing"
    elif isinstance(result, dict) and "status" in result:
        parts |= _instance(case, result)
    elif record["op"] == "concurrent" and isinstance(result, list):
        parts["results"] = [_instance(case, one["ok"]) if "ok" in one else {"outcome": "threw"} for one in result]
    else:
        parts["value"] = _without_none(result)
    if record["op"] == "list" and isinstance(result, list):
        parts["value"] = sorted(result)  # ours is newest first; the original's follows from its store
    parts["handlers"] = list(record.get("handlers", ()))
    parts["trace"] = [_event(event) for event in record.get("trace", ())]
    parts["hooks"] = [_hook(entry) for entry in record.get("hooks", ())]
    _put_in_order(case, parts)
    return parts


def _put_in_order(case: Json, parts: Parts) -> None:
    """What happened at the same time, in the members of a group, is in no particular order."""
    members = siblings(case["workflow"]["steps"])
    for part in ORDERED if members else ():
        parts[part] = in_order(parts[part], members)


def _instance(case: Json, result: Json) -> Parts:
    names = [step.get("name", "") for step in flat(case["workflow"]["steps"])]
    steps = []
    for index, entry in enumerate(result["history"]):
        if isinstance(entry, str):
            name, status, retries = entry.rsplit(":", 2)
        else:
            name, status, retries = entry["name"], entry["status"], entry["retries"]
        if name in {"", "-"} and index < len(names):
            name = names[index]  # a step that never ran has no name in the original's history
        steps.append(f"{name}:{status}:{retries}")
    return {"status": result["status"], "steps": steps, "data": result["data"]}


def _event(event: Mapping[str, Any]) -> str:
    kind = str(event["type"])
    return f"{kind}:{event['stepName']}" if kind.startswith("step:") and "stepName" in event else kind


def _hook(entry: str) -> str:
    name, _, rest = entry.partition(":")
    return f"{name}:{rest.split(':')[0]}" if name.startswith("step") else name


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None and key != "version"}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
