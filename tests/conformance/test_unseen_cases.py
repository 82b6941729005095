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


def pair(first: dict[str, Any], second: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A group of p1 and p2; `more` is for p2."""
    return {"parallel": [{"name": "p1", "do": [first]}, {"name": "p2", "do": [second], **more}]}


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
    {
        "class": "write-conflicts",
        "case": case([pair({"append": "log"}, {"append": "log"}), {"name": "z", "do": [{"set": {"z": 1}}]}], EXECUTE),
        "theirs": [
            {
                "op": "execute",
                "result": told(
                    "completed", {"log": ["p1", "p2"], "z": 1}, "p1:completed:0", "p2:completed:0", "z:completed:0"
                ),
                "handlers": ["run:p1#1", "run:p2#1", "run:z#1"],
                "trace": events(
                    "workflow:start",
                    "step:start:p1",
                    "step:start:p2",
                    "step:complete:p1",
                    "step:complete:p2",
                    "step:start:z",
                    "step:complete:z",
                    "workflow:complete",
                ),
                "hooks": [
                    "stepStart:p1",
                    "stepStart:p2",
                    "stepComplete:p1",
                    "stepComplete:p2",
                    "stepStart:z",
                    "stepComplete:z",
                    "workflowComplete",
                ],
            }
        ],
    },
    {
        "class": "failed-groups",
        "case": case(
            [
                {"name": "a", "do": [{"set": {"a": 1}}], "compensate": {"set": {"a": 0}}},
                pair({"fail": {"message": "no"}}, {"set": {"p2": 1}}, compensate={"ok": True}),
            ],
            EXECUTE,
            {"op": "get"},
            config={"defaultRetries": 1},
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("rolled_back", {"a": 0, "p2": 1}, "a:compensated:0", "p1:failed:0", "p2:completed:0"),
                "handlers": ["run:a#1", "run:p1#1", "run:p2#1", "run:p1#2", "compensate:a#1"],
                "trace": events(
                    "workflow:start",
                    "step:start:a",
                    "step:complete:a",
                    "step:start:p1",
                    "step:start:p2",
                    "step:retry:p1",
                    "step:complete:p2",
                    "step:error:p1",
                    "workflow:rollback_start",
                    "step:compensate:a",
                    "workflow:rollback_complete",
                ),
                "hooks": [
                    "stepStart:a",
                    "stepComplete:a",
                    "stepStart:p1",
                    "stepStart:p2",
                    "stepComplete:p2",
                ],
            },
            {
                "op": "get",
                "result": told("rolled_back", {"a": 0, "p2": 1}, "a:compensated:0", "p1:failed:0", "p2:completed:0"),
            },
        ],
    },
    {
        "class": "retries-in-groups",
        "case": case(
            [pair({"fail": {"message": "no", "times": 1}}, {"incr": "p2"}), {"name": "z", "do": []}],
            EXECUTE,
            {"op": "resume"},
            config={"defaultRetries": 0},
        ),
        "theirs": [
            {
                "op": "execute",
                "result": told("failed", {"p2": 1}, "p1:failed:0", "p2:completed:0", "z:pending:0"),
                "handlers": ["run:p1#1", "run:p2#1"],
                "trace": events(
                    "workflow:start",
                    "step:start:p1",
                    "step:start:p2",
                    "step:error:p1",
                    "step:complete:p2",
                    "workflow:rollback_start",
                ),
                "hooks": ["stepStart:p1", "stepStart:p2", "stepComplete:p2"],
            },
            {
                "op": "resume",
                "result": told("completed", {"p2": 2}, "p1:completed:0", "p2:completed:0", "z:completed:0"),
                "handlers": ["run:p1#2", "run:p2#2", "run:z#1"],
                "trace": events(
                    "step:start:p1",
                    "step:start:p2",
                    "step:complete:p1",
                    "step:complete:p2",
                    "step:start:z",
                    "step:complete:z",
                    "workflow:complete",
                ),
                "hooks": [
                    "stepStart:p1",
                    "stepStart:p2",
                    "stepComplete:p1",
                    "stepComplete:p2",
                    "stepStart:z",
                    "stepComplete:z",
                    "workflowComplete",
                ],
            },
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


def test_members_of_a_group_are_seen_as_the_original_counts_them() -> None:
    steps: list[dict[str, Any]] = [
        {"name": "a", "do": [{"recordCtx": True}]},
        {
            "parallel": [
                {"name": "p1", "do": [{"recordCtx": True}, {"ret": 7}]},
                {"name": "p2", "do": [{"fail": {"message": "no"}}], "when": {"const": False}},
                {"name": "c", "commit": True, "do": [], "retries": 2},
            ]
        },
        {"name": "z", "do": [{"copyOutputOf": "p1", "into": "got"}]},
    ]
    ops = run_case(case(steps, EXECUTE, {"op": "get"}, {"op": "describe"}))["ops"]
    done = ["a:completed:0", "p1:completed:0", "p2:skipped:0", "c:completed:0", "z:completed:0"]
    assert ops[1]["result"]["history"] == done
    assert ops[0]["result"]["data"] == {"got": 7}
    assert [entry for entry in ops[0]["handlers"] if entry.startswith("ctx:")] == [
        f'ctx:{{"status":"running","currentStep":{place},"self":"running"}}' for place in (0, 1)
    ]
    assert [(step["name"], step["commit"]) for step in ops[2]["result"]["steps"]] == [
        ("a", False), ("p1", False), ("p2", False), ("c", True), ("z", False),
    ]  # fmt: skip


def test_of_a_group_the_order_among_its_members_is_not_compared_but_that_of_each_is() -> None:
    one = copy.deepcopy(cases()["par-02"])
    (theirs,) = [told for told in one["observed"].values() if "ops" in told]
    first = theirs["ops"][0]
    for part in ("handlers", "trace", "hooks"):
        assert any("p1" in str(entry) for entry in first[part])
    first["handlers"] = ["run:p2#1", "late:p2#1", "run:p1#1", "late:p1#1", "run:z#1"]
    found = compare(one, run_case(one))
    assert found is not None
    assert found.verdict == "same"
    first["handlers"] = ["late:p1#1", "run:p1#1", "run:p2#1", "late:p2#1", "run:z#1"]
    found = compare(one, run_case(one))
    assert found is not None
    assert found.verdict == "DIFFERENT"


def test_a_member_of_a_group_is_retried_by_its_name_or_number() -> None:
    steps = [pair({"fail": {"message": "no", "times": 2}}, {"incr": "p2"}), {"name": "z", "do": []}]
    again: list[dict[str, Any]] = [{"op": "retryStep", "step": "p1"}, {"op": "resume", "fromStep": 0}]
    ops = run_case(case(steps, EXECUTE, *again, config={"defaultRetries": 0}))["ops"]
    assert [op["handlers"] for op in ops] == [["run:p1#1", "run:p2#1"], ["run:p1#2"], ["run:p1#3", "run:z#1"]]
    assert ops[2]["result"]["data"] == {"p2": 1}
