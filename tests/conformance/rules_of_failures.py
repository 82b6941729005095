"""Rules about what follows a failure, and about events where the builds of the original differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.view import ENDED_BADLY, ORDERED, RETRIES, View, runs, unordered

if TYPE_CHECKING:
    Json = dict[str, Any]
    Parts = dict[str, Any]


def compensations(view: View) -> bool:
    """Every completed step that can be undone is undone, each with its retries; one that fails stops no other."""
    theirs = view.theirs
    if "workflow:rollback_start" not in theirs["trace"] or "steps" not in theirs:
        return False
    calls: list[str] = []
    events: list[str] = []
    told: list[str] = []
    statuses: dict[str, str] = {}
    for step in reversed(view.steps):
        name = step.get("name", "")
        done = any(entry.startswith((f"{name}:comp", f"{name}:compensat")) for entry in theirs["steps"])
        if "compensate" not in step or not done or f"step:skipped:{name}" in theirs["trace"]:
            continue
        retries = view.config.get("defaultRetries", RETRIES)
        recovery = view.case.get("recovery", {}).get(name, {})
        if recovery.get("type") == "retry":
            retries = recovery.get("maxAttempts", 1)
        earlier = [entry for parts in view.all_ours[: view.index] for entry in parts["handlers"]]
        first = 1 + sum(entry.startswith(f"compensate:{name}#") for entry in earlier)
        failing = step["compensate"].get("fail")
        last_bad = 0 if failing is None else failing.get("times", first + retries)
        attempts = min(max(1, last_bad - first + 2), retries + 1)
        undone = first + attempts - 1 > last_bad
        calls += [f"compensate:{name}#{first + n}" for n in range(attempts)]
        events += [f"step:retry:{name}"] * (attempts - 1)
        events.append(f"step:{'compensate' if undone else 'error'}:{name}")
        told += [] if undone else [f"stepError:{name}"]
        statuses[name] = "compensated" if undone else "compensation_failed"
    failed = "compensation_failed" in statuses.values() or "compensated" not in statuses.values()
    end = "workflow:error" if failed and statuses else None if failed else "workflow:rollback_complete"
    start = theirs["trace"].index("workflow:rollback_start") + 1
    theirs["trace"] = [*theirs["trace"][:start], *events, *([end] if end else theirs["trace"][start:])]
    theirs["handlers"] = [e for e in theirs["handlers"] if not e.startswith("compensate:")] + calls
    theirs["hooks"] = [e for e in theirs["hooks"] if e != "workflowError" or not statuses] + told
    theirs["status"] = "failed" if failed else "rolled_back"
    theirs["steps"] = [
        f"{name}:{statuses.get(name, status)}:{retries}"
        for name, status, retries in (entry.rsplit(":", 2) for entry in theirs["steps"])
    ]
    return False


def failure_is_told(view: View) -> bool:
    """A failed instance ends its trace with `workflow:error`, and `workflow_error` is called for every bad end."""
    if unordered(view.op):
        _tell_failures(view.theirs)
        return False
    events: list[str] = []
    for run in _per_instance(view.theirs["trace"]):
        events += run
        if "workflow:rollback_start" in run and run[-1] not in {"workflow:rollback_complete", "workflow:error"}:
            events.append("workflow:error")
    view.theirs["trace"] = events
    told: list[str] = []
    entries = view.theirs["hooks"]
    ended = view.theirs.get("status") in ENDED_BADLY
    bad = ended or view.op["op"] in {"executeBatch", "concurrent", "join"}
    owed = False
    for place, entry in enumerate(entries):
        told.append(entry)
        owed = bad and (entry.startswith("stepError:") or (owed and entry != "workflowError"))
        following = entries[place + 1] if place + 1 < len(entries) else ""
        beside = _group_of(view, entry) is not None and _group_of(view, entry) == _group_of(view, following)
        if owed and not beside and not following.startswith(("workflowError", "stepError")):
            told.append("workflowError")
            owed = False
    conflict = ended and view.theirs["trace"][-1:] == ["workflow:error"] and not any("Error" in one for one in told)
    view.theirs["hooks"] = [*told, "workflowError"] if conflict else told
    return False


def _group_of(view: View, entry: str) -> int | None:
    """The group that the step of a hook's entry is a member of."""
    return view.members.get(entry.rpartition(":")[2], (None, 0))[0]


def _tell_failures(theirs: Parts) -> None:
    """The same for a batch in no particular order: by counting."""
    trace, told = theirs["trace"], theirs["hooks"]
    open_ = trace.count("workflow:rollback_start") - trace.count("workflow:rollback_complete")
    theirs["trace"] = sorted(trace + ["workflow:error"] * (open_ - trace.count("workflow:error")))
    bad = sum(entry.startswith("stepError:") for entry in told)
    theirs["hooks"] = sorted(told + ["workflowError"] * (bad - told.count("workflowError")))


def _per_instance(trace: list[str]) -> list[list[str]]:
    """A trace cut where another instance starts."""
    found: list[list[str]] = []
    for event in trace:
        if event == "workflow:start" or not found:
            found.append([])
        found[-1].append(event)
    return found


def builds_differ(view: View) -> bool:
    """Where the builds of the original differ from each other, we do what one of them does."""
    theirs = view.theirs
    if view.op["op"] == "retryStep" and theirs["trace"][:1] == ["workflow:start"]:
        theirs["trace"] = theirs["trace"][1:]  # 3.0.1 only: an instance starts once
    if unordered(view.op):
        _settle_batch(theirs)
        return False
    skipped = _skips(theirs["handlers"])
    seen: dict[str, int] = {}
    for place, event in enumerate(theirs["trace"]):
        kind, _, name = event.rpartition(":")
        if name in skipped and kind in {"step:complete", "step:skipped", "step:error"}:
            turn = seen[name] = seen.get(name, 0) + 1
            if kind == "step:complete" and turn <= len(skipped[name]) and skipped[name][turn - 1]:
                theirs["trace"][place] = f"step:skipped:{name}"  # 3.0.2+ says `step:complete`
    failed = [event[len("step:error:") :] for event in theirs["trace"] if event.startswith("step:error:")]
    if failed and not any(entry.startswith("stepError:") for entry in theirs["hooks"]):
        _tell_errors(theirs, failed)  # 3.0.2+ never calls the hook
    return False


def _settle_batch(theirs: Parts) -> None:
    """The same for a batch in no particular order: by counting."""
    names = {entry[len("when:") :] for entry in theirs["handlers"] if entry.startswith("when:")}
    for name in names:
        skipped = theirs["handlers"].count(f"when:{name}") - runs(theirs["handlers"]).count(name)
        for _ in range(skipped - theirs["trace"].count(f"step:skipped:{name}")):
            theirs["trace"].remove(f"step:complete:{name}")
            theirs["trace"].append(f"step:skipped:{name}")
    failed = [event[len("step:error:") :] for event in theirs["trace"] if event.startswith("step:error:")]
    if not any(entry.startswith("stepError:") for entry in theirs["hooks"]):
        theirs["hooks"] += [f"stepError:{name}" for name in failed]
    for part in ORDERED:
        theirs[part].sort()


def _skips(handlers: list[str]) -> dict[str, list[bool]]:
    """For every step with a condition: whether it was skipped, each time that the condition was asked."""
    found: dict[str, list[bool]] = {}
    for place, entry in enumerate(handlers):
        if entry.startswith("when:"):
            name = entry[len("when:") :]
            following = handlers[place + 1] if place + 1 < len(handlers) else ""
            found.setdefault(name, []).append(not following.startswith(f"run:{name}#"))
    return found


def _tell_errors(theirs: Parts, failed: list[str]) -> None:
    """Put the missing `stepError` behind the start of the step: a start that no completion follows."""
    entries: list[str] = []
    for place, entry in enumerate(theirs["hooks"]):
        entries.append(entry)
        name = entry.partition(":")[2]
        following = theirs["hooks"][place + 1] if place + 1 < len(theirs["hooks"]) else ""
        if entry == f"stepStart:{name}" and name in failed and following != f"stepComplete:{name}":
            entries.append(f"stepError:{name}")
    theirs["hooks"] = entries
