"""Runs a recorded case (see `cases.json`) on our engine, and gives an observation of the same form.

A case is data: a workflow, settings, and the operations applied to it. Nothing here looks at a case's id. A word that
is not known raises `UnknownInCase`; an operation for which we have no counterpart on purpose (writing an instance's
state from outside) is observed as `unsupported`, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core import FluxEngine, FluxError, RetryPolicy, StepExecution, compensation, create_workflow, flow
from flux_core.testing import SeededEntropy, VirtualClock
from tests.conformance.behaviours import REAL_LIMIT_MS, Behaviours, UnknownInCase, known, real_ms
from tests.conformance.groups import flat, group_name, is_group, places
from tests.conformance.laboratory import CaseStorage, Gate, Invocation, Log, RecordingSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import FlowBuilder, FluxResult, WorkflowBuilder
    from tests.conformance.groups import Place

    Json = dict[str, Any]

_CASE = {"id", "title", "workflow", "otherWorkflows", "config", "recovery", "ops", "observed"}
_WORKFLOW = {"name", "version", "steps", "raw", "validate", "key"}
_GROUP = {"parallel"}
_STEP = {"name", "do", "commit", "retries", "timeout", "when", "compensate", "async"}
_CONFIG = {
    "defaultRetries",
    "defaultTimeout",
    "failSaveAt",
    "hookThrows",
    "lockProvider",
    "optimizer",
    "parallel",
    "saveDelay",
    "traceThrows",
}
_RECOVERIES = {"retry", "abort", "manual"}
_HOOKS = {
    "stepStart": "step_start",
    "stepComplete": "step_complete",
    "stepError": "step_error",
    "workflowComplete": "workflow_complete",
    "workflowError": "workflow_error",
}
UNKNOWN_ID = "no-such-id"


def run_case(case: Json) -> Json:
    """What our engine does with `case`: `{"ops": [...]}`."""
    known([case], _CASE, "case")
    bench = Bench(case)
    observed: Json = {"ops": [bench.observe(op) for op in case["ops"]]}
    if bench.clock.slept:
        observed["backoffDelaysMs"] = [round(seconds * 1000) for seconds in bench.clock.slept]
    return observed


class Bench:
    """One case under way: engine, store, clock and log, and the instance that its operations are about."""

    def __init__(self, case: Json) -> None:
        config = self._config = case.get("config", {})
        known([config], _CONFIG, "config")
        self.clock = VirtualClock()
        self._entropy = SeededEntropy()
        self._log = Log()
        self._behaviours = Behaviours(self._log)
        self._storage = CaseStorage(config.get("failSaveAt", ()), real_ms(config.get("saveDelay", 0)))
        self._recovery = case.get("recovery", {})
        for action in self._recovery.values():
            known([action], {"type", "maxAttempts"}, "recovery")
            if action["type"] not in _RECOVERIES:
                message = f"recovery: unknown type {action['type']!r} (known: {', '.join(sorted(_RECOVERIES))})"
                raise UnknownInCase(message)
        self._main = case["workflow"]
        self._specs = {spec.get("key", spec["name"]): spec for spec in case.get("otherWorkflows", ())}
        for spec in (self._main, *self._specs.values()):
            known([spec], _WORKFLOW, "workflow")
            self._check_steps(spec["steps"])
            self._behaviours.know({name: place for name, place in _places(spec).items() if place.group is not None})
        self._builders: dict[str | None, WorkflowBuilder] = {}
        self._made: FluxEngine | None = None
        self._instances = 0
        self._id = UNKNOWN_ID
        self._created_at: int | None = None
        self._background: Invocation | None = None

    @staticmethod
    def _check_steps(steps: list[Json]) -> None:
        known([step for step in steps if "parallel" in step], _GROUP, "parallel")
        known(flat(steps), _STEP, "step")

    # --- what the case declares -------------------------------------------------------------------------------

    @property
    def _engine(self) -> FluxEngine:
        """Made at its first use, so that settings which the engine refuses are the outcome of an operation."""
        if self._made is None:
            self._made = self._new_engine()
        return self._made

    def _new_engine(self) -> FluxEngine:
        config = self._config
        options: Json = {}
        if "defaultRetries" in config:
            options["default_retries"] = config["defaultRetries"]
        if "defaultTimeout" in config:
            options["default_timeout"] = _seconds(config["defaultTimeout"])
        return FluxEngine(
            self._storage,
            trace=RecordingSink(self._log, raises=bool(config.get("traceThrows"))),
            on={ours: self._hook(theirs) for theirs, ours in _HOOKS.items()},
            retry=RetryPolicy(jitter=False),
            inline_backoff=3600.0,
            clock=self.clock,
            entropy=self._entropy,
            **options,
        )

    def _hook(self, name: str) -> Callable[..., None]:
        throws = self._config.get("hookThrows", ())
        raises = name == throws if isinstance(throws, str) else name in throws

        def note(*arguments: object) -> None:
            entry = [name]
            if name.startswith("step"):
                if is_group(arguments[0]):
                    return
                entry.append(str(arguments[0]))
            if name.endswith("Error"):
                entry.append(str(arguments[-1]))
            self._log.hooks.append(":".join(entry))
            if raises:
                message = f"hook {name}"
                raise RuntimeError(message)

        return note

    def _workflow(self, key: str | None = None) -> WorkflowBuilder:
        """The builder of the main workflow, or of the other one that an operation names."""
        if key is not None and key not in self._specs:
            message = f"op: no other workflow {key!r} in the case"
            raise UnknownInCase(message)
        if key not in self._builders:
            self._builders[key] = self._declare(self._main if key is None else self._specs[key], _seconds)
        return self._builders[key]

    def _declare(self, spec: Json, seconds: Callable[[float], float]) -> WorkflowBuilder:
        made = create_workflow(spec["name"], version=spec.get("version", "1"))
        if "validate" in spec:
            made.input(self._behaviours.validator(spec["validate"]))
        for number, step in enumerate(spec["steps"]):
            if "parallel" in step:
                members = [flow(inner["name"]) for inner in step["parallel"]]
                for member, inner in zip(members, step["parallel"], strict=True):
                    self._declare_step(member, inner, seconds)
                made.parallel(group_name(number), *members, on_error="wait_all")
            else:
                self._declare_step(made, step, seconds)
        return made

    def _declare_step(self, made: WorkflowBuilder | FlowBuilder, step: Json, seconds: Callable[[float], float]) -> None:
        name, make = step["name"], self._behaviours
        options: Json = {}
        if "retries" in step:
            options["retries"] = step["retries"]
        limit = step.get("timeout", self._config.get("defaultTimeout"))
        if "timeout" in step:
            options["timeout"] = seconds(step["timeout"])
        if "when" in step:
            options["when"] = make.condition(name, step["when"])
        if "compensate" in step:
            undo = make.compensator(name, step["compensate"])
            options["compensate"] = undo
            if name in self._recovery and self._recovery[name]["type"] == "retry":
                options["compensate"] = compensation(undo, retries=self._recovery[name].get("maxAttempts", 1))
        handler = make.handler(
            name,
            step.get("do", []),
            limit_ms=None if limit is None else real_ms(limit),
            is_async=step.get("async", True),
        )
        (made.commit if step.get("commit") else made.step)(name, handler, **options)

    # --- operations -----------------------------------------------------------------------------------------

    def observe(self, op: Json) -> Json:
        """Apply one operation and tell what came of it."""
        return {"op": op["op"], **self._outcome(op), **self._log.take()}

    def _outcome(self, op: Json) -> Json:
        verb = _OPS.get(op["op"])
        if verb is None:
            message = f"op: unknown {op['op']!r} (known: {', '.join(sorted(_OPS))})"
            raise UnknownInCase(message)
        keys, apply = verb
        known([op], {"op", *keys}, f"op {op['op']!r}")
        try:
            return apply(self, op)
        except FluxError as error:
            return {"threw": {"message": str(error), "type": type(error).__name__}}

    def _spec(self, op: Json) -> Json:
        found: Json = self._main if op.get("workflow") is None else self._specs[op["workflow"]]
        return found

    def _path(self, op: Json, step: str | int) -> str | int:
        """The step that an operation names, or counts, where we have it."""
        places = _places(self._spec(op))
        if isinstance(step, str):
            return places[step].path if step in places else step
        paths = [place.path for place in places.values()]
        return paths[step] if 0 <= step < len(paths) else step

    def _result(self, op: Json, result: FluxResult) -> Json:
        told: Json = {"status": result.status}
        if result.error is not None:
            told["error"] = str(result.error)
        told["data"] = result.data
        told["history"] = [_entry(name, step) for name, step in _history(self._spec(op), result)]
        return {"result": told}

    def _stored(self, op: Json, result: FluxResult) -> Json:
        entries = _history(self._spec(op), result)
        told: Json = {"status": result.status, "currentStep": min(result.state.cursor, len(entries) - 1)}
        if result.error is not None:
            told["error"] = str(result.error)
        told["completedAt"] = result.state.completed_at is not None
        told["data"] = result.data
        told["history"] = [f"{name}:{step.status}:{step.retries}" for name, step in entries]
        return {"result": told}

    def _named(self, op: Json) -> tuple[WorkflowBuilder, str]:
        """The workflow and the id that an operation is about."""
        id_ = op.get("id", self._id)
        return self._workflow(op.get("workflow")), UNKNOWN_ID if id_ == "$unknown" else id_

    def _execute(self, op: Json) -> Json:
        self._instances += 1
        self._id = op.get("id", f"instance-{self._instances}")
        return self._result(op, self._engine.execute(self._workflow(op.get("workflow")), op.get("input", {}), self._id))

    def _get(self, op: Json) -> Json:
        return self._stored(op, self._engine.get(*self._named(op)))

    def _signal(self, op: Json) -> Json:
        return self._result(op, self._engine.signal(*self._named(op), op["name"], op.get("payload")))

    def _retry_step(self, op: Json) -> Json:
        return self._result(op, self._engine.retry_step(*self._named(op), str(self._path(op, op["step"]))))

    def _resume(self, op: Json) -> Json:
        step = op.get("fromStep")
        return self._result(op, self._engine.resume(*self._named(op), None if step is None else self._path(op, step)))

    def _cancel(self, op: Json) -> Json:
        return self._result(op, self._engine.cancel(*self._named(op)))

    def _list(self, op: Json) -> Json:
        return {"result": [f"{item.workflow}:{item.status}" for item in self._engine.list().items]}

    def _batch(self, op: Json) -> Json:
        options = op.get("options", {})
        known([options], {"concurrency"}, "op 'executeBatch': options")

        def progress(done: int, total: int) -> None:
            self._log.handlers.append(f"progress:{done}/{total}")

        batch = self._engine.execute_batch(
            self._workflow(op.get("workflow")),
            op["inputs"],
            concurrency=options.get("concurrency", 1),
            on_progress=progress,
        )
        items: list[Json] = []
        for item in batch.results:
            entry: Json = {"index": item.index, "success": item.success}
            if item.error is not None:
                entry["error"] = str(item.error)
            items.append(entry | {"status": item.status})
        counts = {"total": batch.total, "succeeded": batch.succeeded, "failed": batch.failed}
        return {"result": counts | {"results": items}}

    def _describe(self, op: Json) -> Json:
        spec = self._spec(op)
        told = self._declare(spec, lambda ms: ms / 1000).describe()
        steps = []
        for step in [inner for outer in told["steps"] for inner in _described(outer)]:
            entry = {"name": step["name"], "commit": step["commit"]}
            if step["retries"] is not None:
                entry["retries"] = step["retries"]
            if step["timeout"] is not None:
                entry["timeout"] = round(step["timeout"] * 1000, 3)
            steps.append(entry | {"hasCondition": step["has_condition"]})
        return {"result": {"name": told["name"], "version": told["version"], "steps": steps}}

    def _build(self, op: Json) -> Json:
        self._workflow(op.get("workflow")).build()
        return {"result": "ok"}

    def _wait(self, op: Json) -> Json:
        self.clock.advance(op["ms"] / 1000)
        if self._behaviours.gate is not None:
            self._behaviours.gate.pass_ms(real_ms(op["ms"]))
        return {"result": "ok"}

    def _restart(self, op: Json) -> Json:
        self._made = self._new_engine()
        return {"result": "ok"}

    def _created_at_stable(self, op: Json) -> Json:
        now = self._engine.get(*self._named(op)).state.created_at
        first, self._created_at = self._created_at, now if self._created_at is None else self._created_at
        return {"result": {"sameAsFirst": None if first is None else now == first}}

    def _pending_recovery(self, op: Json) -> Json:
        """What a person has to see to is in the instance itself: a compensation that failed."""
        for step in self._engine.get(*self._named(op)).history:
            if step.status == "compensation_failed":
                return {"result": {"pending": True, "detail": step.error}}
        return {"result": {"pending": False}}

    # --- operations that overlap ----------------------------------------------------------------------------

    def _concurrent(self, op: Json) -> Json:
        """Each begins when the one before is inside a handler, or has returned; then all handlers go on."""
        gate = Gate(budget=-1.0)
        started = [self._start(inner, gate) for inner in op["ops"]]
        outcomes = [invocation.join() for invocation in started]
        self._behaviours.gate = None
        return {
            "result": [
                {"ok": outcome["result"]} if "result" in outcome else {"error": outcome.get("threw", outcome)}
                for outcome in outcomes
            ]
        }

    def _start_async(self, op: Json) -> Json:
        """A run in the background, looked at when its handlers have slept `afterMs` altogether."""
        id_ = f"instance-{self._instances + 1}"
        begin: Json = {"op": "execute"}
        begin |= {key: op[key] for key in ("input", "workflow") if key in op}
        self._background = self._start(begin, Gate(budget=real_ms(op.get("afterMs", 0))))
        return self._stored(op, self._engine.get(self._workflow(op.get("workflow")), id_))

    def _join(self, op: Json) -> Json:
        if self._background is None:
            message = "op 'join': nothing was started with 'startAsync'"
            raise UnknownInCase(message)
        outcome = self._background.join()
        self._behaviours.gate = None
        return outcome

    def _start(self, op: Json, gate: Gate) -> Invocation:
        self._behaviours.gate = gate
        invocation = Invocation(lambda: self._outcome(op), gate)
        self._behaviours.invocation = lambda: invocation
        invocation.start()
        invocation.started_or_done()
        return invocation

    def _no_writing(self, op: Json) -> Json:
        return {"unsupported": "nobody writes an instance's state from outside: the log is append-only"}


_NAMED = ("workflow", "id")
_OPS: dict[str, tuple[tuple[str, ...], Callable[[Bench, Json], Json]]] = {
    "execute": ((*_NAMED, "input"), Bench._execute),
    "get": (_NAMED, Bench._get),
    "signal": ((*_NAMED, "name", "payload"), Bench._signal),
    "retryStep": ((*_NAMED, "step"), Bench._retry_step),
    "resume": ((*_NAMED, "fromStep"), Bench._resume),
    "cancel": (_NAMED, Bench._cancel),
    "list": ((), Bench._list),
    "executeBatch": (("workflow", "inputs", "options"), Bench._batch),
    "describe": (("workflow",), Bench._describe),
    "build": (("workflow",), Bench._build),
    "wait": (("ms",), Bench._wait),
    "newEngine": ((), Bench._restart),
    "createdAtStable": (_NAMED, Bench._created_at_stable),
    "pendingRecovery": (_NAMED, Bench._pending_recovery),
    "concurrent": (("ops",), Bench._concurrent),
    "startAsync": (("workflow", "input", "afterMs"), Bench._start_async),
    "join": ((), Bench._join),
    "saveState": ((*_NAMED, "patch"), Bench._no_writing),
    "patchStored": ((*_NAMED, "patch"), Bench._no_writing),
}


def _seconds(ms: float) -> float:
    """A limit in seconds; wide enough that a handler within its nominal limit is never cut on a busy machine."""
    return 0.0 if ms == 0 else max(real_ms(ms), REAL_LIMIT_MS) / 1000 if ms > 0 else ms / 1000


def _places(spec: Json) -> dict[str, Place]:
    return {place.name: place for place in places(spec["steps"])}


def _described(step: Json) -> list[Json]:
    """A step as it is described; of a group its members."""
    return [inner for body in step["bodies"].values() for inner in body] if is_group(step["name"]) else [step]


def _history(spec: Json, result: FluxResult) -> list[tuple[str, StepExecution]]:
    """The entries with their names; in the place of a group its members in their order, pending if they never ran."""
    by_path = {step.path: step for step in result.history}
    members: dict[str | None, list[Place]] = {}
    for place in places(spec["steps"]):
        members.setdefault(place.group, []).append(place)
    entries: list[tuple[str, StepExecution]] = []
    for step in result.history:
        if is_group(step.name):
            inside = [(place.name, place.path) for place in members.get(step.name, ())]
            entries += [(name, by_path.get(path) or StepExecution(path)) for name, path in inside]
        elif "." not in step.path:
            entries.append((step.name, step))
    return entries


def _entry(name: str, step: StepExecution) -> Json:
    entry: Json = {"name": name, "status": step.status, "retries": step.retries}
    if step.error is not None:
        entry["error"] = step.error
    if step.waiting_for:
        entry["waitingFor"] = step.waiting_for[0]
    if step.output is not None:
        entry["output"] = step.output
    return entry
