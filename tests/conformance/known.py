"""The known classes of deliberate differences, as small rewrites: from what the original did to what we do instead.

Each looks at one operation (`View`) and, where its rule applies, changes the expectation `view.theirs` as the rule
says. A difference that the rewrites do not account for is not deliberate. A rewrite returns True if from here on the
instance has taken another course, so that what later operations show is about another history.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conformance.behaviours import real_ms

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
        """The steps of the workflow that the operation names."""
        found: list[Json] = self.spec["steps"]
        return found

    @property
    def spec(self) -> Json:
        key = self.op.get("workflow")
        for other in self.case.get("otherWorkflows", ()):
            if key is not None and other.get("key", other["name"]) == key:
                found: Json = other
                return found
        main: Json = self.case["workflow"]
        return main

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


class Known(NamedTuple):
    """A class of deliberate differences, the page that gives the reason, and the rewrite that recognises it."""

    name: str
    page: str
    rewrite: Callable[[View], bool]


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


# --- the same everywhere: what a definition, a store, a hook may do -------------------------------------------


def refused_definitions(view: View) -> bool:
    """A definition with no steps, a time limit of 0, a name twice, ... is refused before anything runs."""
    names = [step.get("name", "") for step in view.steps]
    settings = [view.config, *view.steps]
    wrong = (
        not names
        or len(set(names)) < len(names)
        or any(not _NAME.fullmatch(name) for name in (*names, view.spec["name"]))
        or any(one.get("timeout", one.get("defaultTimeout", 1)) <= 0 for one in settings)
        or any(one.get("retries", one.get("defaultRetries", 0)) < 0 for one in settings)
    )
    if view.threw == "DefinitionError" and wrong and view.theirs["outcome"] in {"result", "nothing"}:
        view.replace(outcome="threw")
        return True
    return False


_NAME = re.compile(r"[A-Za-z0-9_:.-]{1,128}")


def no_writing(view: View) -> bool:
    """Nobody writes an instance's state from outside."""
    if view.ours["outcome"] == "unsupported" and view.op["op"] in {"saveState", "patchStored"}:
        view.replace(outcome="unsupported")
        return True
    return False


def hooks(view: View) -> bool:
    """A hook that raises changes nothing: we do what we do when it does not raise."""
    if "hookThrows" not in view.config or view.theirs == view.ours:
        return False
    changed = any("workflowError" in parts["hooks"] for parts in view.original[: view.index + 1])
    if changed and view.ours == view.without("hookThrows"):
        view.accept()
        return True
    return False


def store_failures(view: View) -> bool:
    """A write that failed is tried again with the same bytes; if that fails too the verb raises."""
    if "failSaveAt" in view.config:
        again = view.ours == view.without("failSaveAt")
        if (again or view.threw == "StorageUnavailable") and view.theirs != view.ours:
            view.accept()
            return True
    return False


def created_at(view: View) -> bool:
    """`created_at` is written once."""
    if view.op["op"] == "createdAtStable" and view.theirs.get("value") == {"sameAsFirst": False}:
        view.theirs["value"] = {"sameAsFirst": True}
    return False


def no_locks(view: View) -> bool:
    """There is no lock provider: an instance has an owner by its lease."""
    view.theirs["handlers"] = [entry for entry in view.theirs["handlers"] if not entry.startswith("lock:")]
    if "lockProvider" in view.config and view.theirs["outcome"] == "threw" and view.ours["outcome"] == "result":
        view.accept()  # the lock was not to be had; the instance was
        return True
    return False


def no_optimizer(view: View) -> bool:
    """Data is given back as it was written, however big."""
    data, ours = view.theirs.get("data"), view.ours.get("data")
    if isinstance(data, dict) and isinstance(ours, dict):
        take_ours(view, {key for key, value in data.items() if isinstance(value, dict) and value.get("__ref") is True})
    return False


def unknown_ids(view: View) -> bool:
    """An unknown id is a typed error for every verb."""
    if view.threw == "UnknownInstance" and view.theirs["outcome"] == "nothing":
        view.theirs["outcome"] = "threw"
    return False


def stored_status(view: View) -> bool:
    """What is stored is the truth: `running` while it runs, and the final status at the end."""
    status = view.theirs.get("status")
    if view.op["op"] == "startAsync" and status == "pending" and view.ours.get("status") == "running":
        view.theirs["status"] = "running"
    if view.op["op"] == "get" and status in {"running", "rolling_back"}:
        told = next((parts for parts in reversed(view.expected) if "status" in parts), {})
        if told.get("status") in ENDED_BADLY:
            view.theirs["status"] = told["status"]
    if view.op["op"] == "list" and isinstance(view.theirs.get("value"), list) and view.before:
        mine = view.ours.get("value", [])
        if len(mine) == len(view.theirs["value"]) and view.before.get("status") in ENDED_BADLY:
            view.theirs["value"] = [
                own if their.endswith((":running", ":rolling_back")) else their
                for own, their in zip(mine, view.theirs["value"], strict=True)
            ]
    return False


def one_owner(view: View) -> bool:
    """Of two verbs at the same time one runs the steps; the other finds the instance owned."""
    if view.op["op"] != "concurrent" or "results" not in view.ours:
        return False
    mine, their = runs(view.ours["handlers"]), runs(view.theirs["handlers"])
    if len(set(mine)) == len(mine) < len(their) and set(mine) == set(their):
        view.accept()
        return True
    return False


# --- conditions and time limits -----------------------------------------------------------------------------------


def conditions(view: View) -> bool:
    """A condition may be asynchronous, and one that raises fails its step like the handler would."""
    for step in view.steps:
        when, name = step.get("when", {}), step.get("name", "")
        if f"when:{name}" not in view.theirs["handlers"]:
            continue
        if "promise" in when and not when["promise"] and name in runs(view.theirs["handlers"]):
            _skip_instead(view, step)
        if "throws" in when and view.theirs.get("status") == "failed":
            _fail_instead(view, step)
    return False


def _skip_instead(view: View, step: Json) -> None:
    name, theirs = step["name"], view.theirs
    calls = (f"run:{name}#", f"late:{name}#")
    theirs["handlers"] = [entry for entry in theirs["handlers"] if not entry.startswith(calls)]
    theirs["trace"] = ["step:skipped:" + name if e == "step:complete:" + name else e for e in theirs["trace"]]
    theirs["steps"] = [
        f"{name}:skipped:0" if entry.startswith(f"{name}:completed") else entry for entry in theirs["steps"]
    ]
    take_ours(view, written_by(step))


def _fail_instead(view: View, step: Json) -> None:
    name, retries, theirs = step["name"], view.retries(step), view.theirs
    theirs["handlers"] += [f"when:{name}"] * retries
    events = [event for event in theirs["trace"] if event != "workflow:error"]
    theirs["trace"] = [*events, *[f"step:retry:{name}"] * retries, f"step:error:{name}", "workflow:rollback_start"]
    theirs["hooks"] = [*[entry for entry in theirs["hooks"] if entry != "workflowError"], f"stepError:{name}"]
    theirs["steps"] = [
        f"{name}:failed:{retries}" if entry.startswith(f"{name}:") else entry for entry in theirs["steps"]
    ]


def late_handlers(view: View) -> bool:
    """A handler that outlasts its time limit is cut: it does nothing any more."""
    late = {step["name"] for step in view.steps if "name" in step and overdue(view, step)}
    view.theirs["handlers"] = [
        entry
        for entry in view.theirs["handlers"]
        if not (entry.startswith("late:") and entry[5:].rpartition("#")[0] in late)
    ]
    return False


def unknown_outcome(view: View) -> bool:
    """A commit that was cut may have taken effect: it is not retried blindly, an operator decides."""
    if view.ours.get("status") == "stuck" and any(s.get("commit") and overdue(view, s) for s in view.steps):
        view.accept()
        return True
    return False


def failed_attempts(view: View) -> bool:
    """What a failed attempt wrote to data vanishes."""
    keys: set[str] = set()
    for step in view.steps:
        if any("fail" in behaviour for behaviour in step.get("do", ())) or overdue(view, step):
            keys |= written_by(step)
    take_ours(view, keys)
    return False


def kept_outputs(view: View) -> bool:
    """What a handler returns is the step's output, and later steps can read it."""
    waits = {step.get("name") for step in view.steps if any("wait" in one for one in step.get("do", ()))}
    copies = [one for step in view.steps for one in step.get("do", ()) if "copyOutputOf" in one]
    take_ours(view, {one["into"] for one in copies if one["copyOutputOf"] not in waits})
    return False


# --- after a failure ----------------------------------------------------------------------------------------------


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
    bad = view.theirs.get("status") in ENDED_BADLY or view.op["op"] in {"executeBatch", "concurrent", "join"}
    for place, entry in enumerate(entries):
        told.append(entry)
        following = entries[place + 1] if place + 1 < len(entries) else ""
        if bad and entry.startswith("stepError:") and not following.startswith(("workflowError", "stepError")):
            told.append("workflowError")
    view.theirs["hooks"] = told
    return False


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


# --- signals --------------------------------------------------------------------------------------------------------


def kept_signals(view: View) -> bool:
    """A signal that nobody awaits yet is kept, not refused and not thrown away."""
    quiet = not (view.ours["handlers"] or view.ours["trace"])
    if view.op["op"] == "signal" and view.ours["outcome"] == "result" and quiet and view.theirs["outcome"] == "threw":
        view.replace(**{part: view.before.get(part) for part in ("status", "steps", "data")})
        return True
    return False


def other_workflow(view: View) -> bool:
    """A verb names the workflow and the id: the same id of another workflow is another instance."""
    if view.threw == "UnknownInstance" and view.spec["name"] != view.case["workflow"]["name"]:
        view.replace(outcome="threw")
        return True
    return False


def changed_definition(view: View) -> bool:
    """An instance whose workflow has other steps now is blocked, or the verb is refused; it is never run on them."""
    main = view.case["workflow"]
    shapes = [[(s.get("name"), s.get("commit", False)) for s in spec["steps"]] for spec in (view.spec, main)]
    if view.spec["name"] != main["name"] or shapes[0] == shapes[1]:
        return False
    if view.ours.get("status") == "blocked" or view.threw in {"Refused", "UnknownStep"}:
        view.accept()
        return True
    return False


# --- retry and resume -----------------------------------------------------------------------------------------------


def refused_verbs(view: View) -> bool:
    """`retry_step` of a completed instance needs force, `resume` is for failed ones, no failed step is jumped over."""
    verbs = {inner["op"] for inner in view.op.get("ops", [view.op])}
    if not verbs <= {"retryStep", "resume"} or not view.before:
        return False
    if view.op["op"] == "concurrent":
        if view.before["status"] == "completed" and all(one == {"outcome": "threw"} for one in view.ours["results"]):
            view.replace(results=view.ours["results"])
            return True
        return False
    if view.threw == "Refused" and view.theirs["outcome"] == "result":
        target = view.op.get("step", view.op.get("fromStep"))
        names = [step.get("name") for step in view.steps]
        place = target if isinstance(target, int) else names.index(target) if target in names else 0
        jumps = any(":failed:" in entry for entry in view.before["steps"][:place])
        jumps = jumps or any(":compensation_failed:" in entry for entry in view.before["steps"])
        if view.before["status"] in {"completed", "running"} or jumps:
            view.replace(outcome="threw")
            return True
    return False


def resume_ticks(view: View) -> bool:
    """`resume` of a suspended instance ticks it: the step that waits goes on waiting."""
    waiting = view.before.get("status") == "suspended" == view.ours.get("status")
    if view.op["op"] == "resume" and waiting and not view.ours["handlers"] and view.theirs["outcome"] == "result":
        view.replace(**{part: view.before[part] for part in ("status", "steps", "data")})
        return True
    return False


def retry_after_rollback(view: View) -> bool:
    """After a rollback effects that were undone are made again: the retry starts at the earliest compensated step."""
    undone = [entry.split(":")[0] for entry in view.before.get("steps", ()) if ":compensated:" in entry]
    if view.op["op"] not in {"retryStep", "resume"} or not undone or view.ours["outcome"] != view.theirs["outcome"]:
        return False
    mine, their = runs(view.ours["handlers"]), runs(view.theirs["handlers"])
    names = [step.get("name") for step in view.steps]
    earlier = mine[:1] == undone[:1] and their and mine[-len(their) :] == their and len(mine) > len(their)
    if earlier and mine == names[names.index(mine[0]) :][: len(mine)]:
        view.accept()
        return True
    return False


def kept_commits(view: View) -> bool:
    """A commit that succeeded is not run again by a retry of an earlier step."""
    if view.op["op"] not in {"retryStep", "resume"}:
        return False
    done = {entry.split(":")[0] for entry in view.before.get("steps", ()) if ":completed:" in entry}
    for step in view.steps:
        name = step.get("name", "")
        if step.get("commit") and name in done and name in runs(view.theirs["handlers"]):
            if name in runs(view.ours["handlers"]):
                continue
            theirs = view.theirs
            theirs["handlers"] = [e for e in theirs["handlers"] if not e.startswith(f"run:{name}#")]
            theirs["trace"] = [e for e in theirs["trace"] if e not in {f"step:start:{name}", f"step:complete:{name}"}]
            theirs["hooks"] = [e for e in theirs["hooks"] if e not in {f"stepStart:{name}", f"stepComplete:{name}"}]
            take_ours(view, written_by(step))
    return False


def restored_data(view: View) -> bool:
    """`retry_step` and `resume` put data back to what it was before the first step that runs again."""
    verbs = {"retryStep", "resume"}
    if not any(op["op"] in verbs for op in view.case["ops"][: view.index + 1]):
        return False
    again = {
        name
        for index, op in enumerate(view.case["ops"][: view.index + 1])
        if op["op"] in verbs
        for name in runs(view.all_ours[index]["handlers"])
    }
    take_ours(view, {key for name in again for key in written_by(view.step(name))})
    return False


_PAGE = "docs/decisions/behaviour-{}.md"
CLASSES: tuple[Known, ...] = tuple(
    Known(name, _PAGE.format(page), rewrite)
    for name, page, rewrite in (
        ("refused-definitions", "refused-definitions", refused_definitions),
        ("no-writing", "state-is-a-log", no_writing),
        ("store-failures", "state-is-a-log", store_failures),
        ("hooks", "hooks-change-nothing", hooks),
        ("created-at", "state-is-a-log", created_at),
        ("no-locks", "what-takes-their-place", no_locks),
        ("no-optimizer", "what-takes-their-place", no_optimizer),
        ("unknown-ids", "an-instance-is-named", unknown_ids),
        ("other-workflow", "an-instance-is-named", other_workflow),
        ("changed-definition", "an-instance-is-named", changed_definition),
        ("kept-signals", "signals-are-kept", kept_signals),
        ("one-owner", "one-owner", one_owner),
        ("refused-verbs", "retry-and-resume", refused_verbs),
        ("resume-ticks", "retry-and-resume", resume_ticks),
        ("retry-after-rollback", "retry-and-resume", retry_after_rollback),
        ("kept-commits", "retry-and-resume", kept_commits),
        ("unknown-outcome", "time-limits", unknown_outcome),
        ("late-handlers", "time-limits", late_handlers),
        ("conditions", "conditions", conditions),
        ("builds-differ", "where-the-builds-differ", builds_differ),
        ("stored-status", "state-is-a-log", stored_status),
        ("compensations", "compensations-go-on", compensations),
        ("failure-is-told", "trace-of-a-failure", failure_is_told),
        ("kept-outputs", "outputs-are-kept", kept_outputs),
        ("failed-attempts", "failed-attempts-leave-nothing", failed_attempts),
        ("restored-data", "retry-and-resume", restored_data),
    )
)
"""In the order in which they are applied: each sees what those before it have made of the expectation."""
PAGES = {known.name: known.page for known in CLASSES}
