"""Cases that were not recorded: a known class is recognised, and what has no order is compared without it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.conformance.comparison import compare
from tests.conformance.interpreter import run_case
from tests.conformance.known import CLASSES
from tests.conformance.table import cases, rows


def case(steps: list[dict[str, Any]], *ops: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "unseen", "title": "", "workflow": {"name": "w", "steps": steps}, "ops": list(ops), **more}


def told(status: str, data: dict[str, Any], *steps: str) -> dict[str, Any]:
    names = [step.split(":") for step in steps]
    history = [{"name": name, "status": status, "retries": int(retries)} for name, status, retries in names]
    return {"status": status, "data": data, "history": history}


def events(*names: str) -> list[dict[str, str]]:
    found = []
    for name in names:
        kind, _, step = name.rpartition(":") if name.count(":") == 2 else (name, "", "")
        found.append({"type": kind, "stepName": step} if step else {"type": kind})
    return found


EXECUTE = {"op": "execute"}
WAITING = {"name": "wait", "do": [{"wait": "go"}]}
HELD = {
    "op": "execute",
    "result": told("suspended", {}, "wait:suspended:0"),
    "handlers": ["run:wait#1"],
    "trace": events("workflow:start", "step:start:wait", "step:suspend:wait"),
    "hooks": ["stepStart:wait"],
}
SLOW = {"name": "c", "commit": True, "retries": 0, "timeout": 20, "do": [{"sleep": 60}]}
UNSEEN: list[dict[str, Any]] = [
    {
        "class": "unknown-outcome",
        "case": case([SLOW], EXECUTE),
        "theirs": [
            {
                "op": "execute",
                "result": told("failed", {}, "c:failed:0"),
                "handlers": ["run:c#1"],
                "trace": events("workflow:start", "step:start:c", "step:error:c", "workflow:rollback_start"),
                "hooks": ["stepStart:c", "stepError:c:Step timeout"],
            }
        ],
    },
    {
        "class": "kept-commits",
        "case": case(
            [
                {"name": "a", "do": [{"set": {"a": 1}}]},
                {"name": "c", "commit": True, "do": [{"incr": "c"}]},
                {"name": "wait", "do": [{"wait": "go"}]},
            ],
            EXECUTE,
            {"op": "retryStep", "step": "a"},
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("suspended", {"a": 1, "c": 1}, "a:completed:0", "c:completed:0", "wait:suspended:0"),
                "handlers": ["run:a#1", "run:c#1", "run:wait#1"],
                "trace": events(
                    "workflow:start",
                    "step:start:a",
                    "step:complete:a",
                    "step:start:c",
                    "step:complete:c",
                    "step:start:wait",
                    "step:suspend:wait",
                ),
                "hooks": ["stepStart:a", "stepComplete:a", "stepStart:c", "stepComplete:c", "stepStart:wait"],
            },
            {
                "op": "retryStep",
                "result": told("suspended", {"a": 1, "c": 2}, "a:completed:0", "c:completed:0", "wait:suspended:0"),
                "handlers": ["run:a#2", "run:c#2", "run:wait#2"],
                "trace": events(
                    "step:start:a",
                    "step:complete:a",
                    "step:start:c",
                    "step:complete:c",
                    "step:start:wait",
                    "step:suspend:wait",
                ),
                "hooks": ["stepStart:a", "stepComplete:a", "stepStart:c", "stepComplete:c", "stepStart:wait"],
            },
        ],
    },
    {
        "class": "changed-definition",
        "case": case(
            [{"name": "wait", "do": [{"wait": "go"}]}, {"name": "b", "do": []}],
            EXECUTE,
            {"op": "signal", "workflow": "v2", "name": "go"},
            otherWorkflows=[
                {"key": "v2", "name": "w", "steps": [{"name": "ask", "do": [{"wait": "go"}]}, {"name": "b", "do": []}]}
            ],
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("suspended", {}, "wait:suspended:0", "b:pending:0"),
                "handlers": ["run:wait#1"],
                "trace": events("workflow:start", "step:start:wait", "step:suspend:wait"),
                "hooks": ["stepStart:wait"],
            },
            {
                "op": "signal",
                "result": told("completed", {}, "wait:completed:0", "b:completed:0"),
                "handlers": ["run:b#1"],
                "trace": events("signal:received", "step:start:b", "step:complete:b", "workflow:complete"),
                "hooks": ["stepStart:b", "stepComplete:b", "workflowComplete"],
            },
        ],
    },
    {
        "class": "resume-ticks",
        "case": case([WAITING], EXECUTE, {"op": "resume"}),
        "theirs": [
            HELD,
            {
                "op": "resume",
                "result": told("suspended", {}, "wait:suspended:0"),
                "handlers": ["run:wait#2"],
                "trace": events("step:start:wait", "step:suspend:wait"),
                "hooks": ["stepStart:wait"],
            },
        ],
    },
    {
        "class": "kept-outputs",
        "case": case(
            [{"name": "a", "do": [{"ret": 7}]}, {"name": "b", "do": [{"copyOutputOf": "a", "into": "got"}]}], EXECUTE
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("completed", {}, "a:completed:0", "b:completed:0"),
                "handlers": ["run:a#1", "run:b#1"],
                "trace": events(
                    "workflow:start",
                    "step:start:a",
                    "step:complete:a",
                    "step:start:b",
                    "step:complete:b",
                    "workflow:complete",
                ),
                "hooks": ["stepStart:a", "stepComplete:a", "stepStart:b", "stepComplete:b", "workflowComplete"],
            }
        ],
    },
    {
        "class": "no-optimizer",
        "case": case(
            [{"name": "a", "do": [{"set": {"big": "x" * 60}}]}],
            EXECUTE,
            config={"optimizer": {"enabled": True, "threshold": 50}},
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("completed", {"big": {"__ref": True, "id": "r", "size": 62}}, "a:completed:0"),
                "handlers": ["run:a#1"],
                "trace": events("workflow:start", "step:start:a", "step:complete:a", "workflow:complete"),
                "hooks": ["stepStart:a", "stepComplete:a", "workflowComplete"],
            }
        ],
    },
]


@pytest.mark.parametrize("unseen", UNSEEN, ids=[unseen["class"] for unseen in UNSEEN])
def test_an_unseen_case_of_a_known_class_is_recognised(unseen: dict[str, Any]) -> None:
    one = {**unseen["case"], "observed": {"build": {"ops": unseen["theirs"]}}}
    found = compare(one, run_case(one))
    assert found is not None
    assert (found.verdict, unseen["class"] in found.classes) == ("deliberate", True), found.unexplained


def test_a_batch_that_runs_several_at_a_time_is_compared_without_order() -> None:
    one = copy.deepcopy(cases()["batch-01"])
    one["ops"][0]["options"]["concurrency"] = 3
    found = compare(one, run_case(one))
    assert found is not None
    assert found.verdict == "deliberate", found.unexplained
    assert {difference.part for difference in found.decisive} == {"trace"}


def test_a_setting_that_the_engine_refuses_is_the_outcome_of_the_operation() -> None:
    one = {**cases()["exec-01"], "config": {"defaultTimeout": 0}}
    assert [op["threw"]["type"] for op in run_case(one)["ops"]] == ["DefinitionError", "DefinitionError"]
    found = compare(one, run_case(one))
    assert found is not None
    assert (found.verdict, found.classes) == ("deliberate", ["refused-definitions"])


def test_every_class_explains_at_least_one_difference_here_or_is_tried_here() -> None:
    used = {name for row in rows().values() for name in row.classes}
    assert {known.name for known in CLASSES} - used == {case["class"] for case in UNSEEN}
