"""`FluxEngine`: the verbs. It loads, asks the machine, appends, carries out, and asks again.

It holds no state of any instance between two calls, and it must not contain a rule: those are in `machine`.
"""

from __future__ import annotations

from flux_core import state as s
from flux_core.audit import audit
from flux_core.builder import WorkflowBuilder
from flux_core.codec import encode_payload
from flux_core.control import Control
from flux_core.deadline import Deadline
from flux_core.errors import (
    CallerError,
    Conflict,
    DefinitionError,
    InputInvalid,
    InvalidToken,
    PurgeUnfinished,
    Refused,
    UnknownStep,
    UnknownWorkflow,
    Unserialisable,
)
from flux_core.events import (
    CancelRequested,
    Event,
    PauseRequested,
    RetryRequested,
    StepResolved,
    UnpauseRequested,
)
from flux_core.family import Family
from flux_core.intake import checked_input
from flux_core.keys import mail_id
from flux_core.load import Loaded, load, load_log, unknown_instance
from flux_core.logger import FluxSilentLogger, GuardedLogger
from flux_core.loop import EngineLoop
from flux_core.machine import check_verb, continuation, failed_step, is_due, unowned_start
from flux_core.machine.verbs import ALLOWED, NO_OP
from flux_core.memory import MemoryStorage
from flux_core.names import check_key
from flux_core.options import checked_retry, checked_timeout
from flux_core.ports import InstanceRef, Mail
from flux_core.redaction import Redaction
from flux_core.result import BatchItem, BatchResult, FluxResult, InstancePage, InstanceSummary
from flux_core.retry import RetryPolicy, seconds
from flux_core.secret import Secrets
from flux_core.store_layers import layered
from flux_core.system import SystemClock, SystemEntropy
from flux_core.trace import Telemetry
from flux_core.values import encode as encode_value
from flux_core.waker import Waker
from flux_core.workflow import Defaults, WorkflowDefinition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Any, overload

    from flux_core.aio import AsyncEngine
    from flux_core.audit import AuditEntry
    from flux_core.callbacks import Callbacks, Ticket
    from flux_core.control import Log, Request
    from flux_core.generics import Input, NoInput
    from flux_core.instance import Instance
    from flux_core.machine import Continuation
    from flux_core.ports import (
        Clock,
        Codec,
        Entropy,
        Logger,
        PayloadStorage,
        Scheduler,
        TraceSink,
        WorkflowStorage,
    )
    from flux_core.secret import Resolver
    from flux_core.state import WorkflowState
    from flux_core.sweeping import Sweeper

    Workflow = WorkflowBuilder | WorkflowDefinition | str
    Declared = WorkflowBuilder[Input, Any] | WorkflowDefinition[Input, Any]
    DeadlineLike = float | timedelta | Callable[[], float]


class FluxEngine:
    """Runs workflows over a store. Engines are cheap, hold nothing between calls, and may be shared by threads."""

    def __init__(
        self,
        storage: WorkflowStorage | None = None,
        *,
        workflows: Iterable[Workflow] = (),
        tenant: str = "default",
        default_retries: int = 3,
        default_timeout: float | timedelta | None = 30.0,
        retry: RetryPolicy | None = None,
        inline_backoff: float | timedelta = 2.0,
        lease: float | timedelta = 120.0,
        longest_invocation: float | timedelta = 900.0,
        logger: Logger | None = None,
        trace: TraceSink | Sequence[TraceSink] | None = None,
        on: Mapping[str, Callable[..., object]] | None = None,
        secrets: Resolver | None = None,
        redact: Iterable[str] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        payloads: PayloadStorage | None = None,
        inline_bytes: int = 32 * 1024,
        codec: Codec | None = None,
        scheduler: Scheduler | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        """`storage` defaults to a `MemoryStorage`; durations are seconds or timedelta.

        `default_retries` (further attempts), `default_timeout` (an attempt; None: no limit) and `retry` hold for
        steps that do not say otherwise. Back-offs up to `inline_backoff` are slept in the invocation. `lease` is how
        long a dead invocation blocks its instance. `delete` refuses instances that ended less than
        `longest_invocation` ago. `on` maps hook names to functions. `secrets` (a function from name to value, or a
        mapping) is asked by `ctx.secret`. `redact` names the keys that trace events and log fields do not show, by
        default `DEFAULT_REDACTED`. Records, signals and snapshots of more than `inline_bytes` are kept in `payloads`,
        if given. `codec` encodes all that is stored, payloads too. `scheduler` is a queue that goes on with instances
        in other invocations. `callbacks` makes the links of `ctx.callback_url`. `DefinitionError` says what is wrong.
        """
        if storage is not None and (isinstance(storage, type) or not hasattr(storage, "append")):
            message = f'storage must be a store, such as SQLiteStorage("orders.db") or MemoryStorage(); got {storage!r}'
            raise DefinitionError(message)
        if logger is not None and not any(hasattr(logger, level) for level in ("debug", "info", "warn", "error")):
            message = f"logger must have debug, info, warn and error, as FluxConsoleLogger() has; got {logger!r}"
            raise DefinitionError(message)
        self.tenant = check_key("tenant", tenant)
        self.clock: Clock = clock or SystemClock()
        self.entropy: Entropy = entropy or SystemEntropy()
        self._longest_invocation = seconds(longest_invocation, "longest_invocation")
        self.storage = layered(
            MemoryStorage() if storage is None else storage, payloads, codec, inline_bytes,
            self._longest_invocation, self.clock, self.entropy,
        )  # fmt: skip
        """The store in its layers, as the verbs use it."""
        self.redaction = Redaction(redact)
        self.logger = GuardedLogger(logger or FluxSilentLogger(), self.redaction)
        sinks = () if trace is None else (trace,) if hasattr(trace, "emit") else tuple(trace)
        self.telemetry = Telemetry(sinks, on, self.logger, self.clock, self.redaction, Secrets(secrets), callbacks)
        self.callbacks = callbacks
        self._waker = Waker(scheduler, self.clock, self.logger)
        if type(default_retries) is not int or default_retries < 0:
            message = f"default_retries must be a whole number from 0 on; got {default_retries!r}"
            raise DefinitionError(message)
        limit = checked_timeout("FluxEngine(default_timeout=...)", default_timeout)
        retry = checked_retry("FluxEngine(retry=...)", retry)
        backoff = seconds(inline_backoff, "inline_backoff")
        self._defaults = Defaults(default_retries, limit, retry, backoff)
        self._lease = seconds(lease, "lease")
        if self._lease == 0:
            message = "lease must be more than 0 seconds: it is how long nobody else may run the instance"
            raise DefinitionError(message)
        self._registry: dict[str, tuple[WorkflowDefinition, WorkflowDefinition]] = {}
        """By name: the definition as it was last given, and bound to the defaults."""
        self._requests = Control(self.storage, self.clock, self.entropy, self.telemetry)
        family = Family(self.storage, self.clock, self._requests, self._known)
        self._loop = EngineLoop(
            self.storage, self.clock, self.entropy, self.logger, self.telemetry, self._lease, family, self._waker
        )  # fmt: skip
        if isinstance(workflows, WorkflowBuilder | WorkflowDefinition | str):
            message = f"workflows must be a list of workflows: workflows=[{workflows!r}]"
            raise DefinitionError(message)
        for workflow in workflows:
            self._workflow(workflow)

    # --- verbs that advance an instance -------------------------------------------------------------------

    if TYPE_CHECKING:

        @overload
        def execute(
            self, workflow: Declared[NoInput], input: None = None, id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip
        @overload
        def execute(
            self, workflow: Declared[Input], input: Input | Mapping[str, object], id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip
        @overload
        def execute(
            self, workflow: str, input: object = None, id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip

    def execute(
        self,
        workflow: Workflow,
        input: object = None,
        id: str | None = None,
        *,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Start an instance and advance it as far as it goes in this invocation.

        `id` makes it idempotent: the same id with the same input returns the instance there is, `created` False;
        with other input it is a `Conflict` (PROTOCOL rule 19). `deadline`: seconds or `timedelta` this invocation may
        take, or a function that tells the seconds left. Without `advance` it is only recorded, and left to the queue
        or the sweeper. `InputInvalid` if the input does not fit.
        """
        begun = self.clock.monotonic()
        definition = self._workflow(workflow)
        raw, hash_ = checked_input(definition, input)
        name = self.entropy.token() if id is None else check_key("id", id)
        ref = InstanceRef(self.tenant, definition.name, name)
        end = self._deadline(deadline)
        state: WorkflowState | None
        if advance:
            state = self._loop.start(ref, definition, raw, hash_, end)
        else:
            state = self._requests.begin(ref, definition, unowned_start(definition, raw, hash_, None, self.clock.now()))
            if state is not None:
                self._waker.now(ref)
        if state is not None:
            return FluxResult(state, definition, self.clock.monotonic() - begun, created=True)
        loaded = load(self.storage, ref)
        if loaded.state.input_hash != hash_:
            message = (
                f"workflow {definition.name!r}, id {name!r} exists already with other input; use another id, or "
                f"execute it with the input it was started with"
            )
            raise Conflict(message)
        return self._ticked(ref, definition, loaded, end, begun, always=False, advance=advance)

    def signal(
        self,
        workflow: Workflow,
        id: str,
        name: str,
        payload: object = None,
        dedupe_id: str | None = None,
        *,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
        nudge: bool = False,
    ) -> FluxResult:
        """Send a signal: consumed at once if it is awaited, else kept until a wait asks for it.

        Sending again with the same `dedupe_id` changes nothing; with another payload it is a `Conflict`. `Refused`
        if the instance has completed or was cancelled, `UnknownInstance` if there is none. Without `advance` it is
        only put into the mailbox, and left to the queue or the sweeper. With `nudge` the due index knows of it before
        the mailbox does, so that the sweeper finds it even if this call dies half-way and nobody sends it again: for
        transports that do not redeliver, such as HTTP (PROTOCOL rule 11).
        """
        begun = self.clock.monotonic()
        definition = self._workflow(workflow)
        ref = self._ref(definition, id)
        check_key("signal name", name)
        try:
            body = encode_payload(payload)
        except Unserialisable as error:
            message = f"signal {name!r} to workflow {definition.name!r}, id {id!r}: {error}"
            raise InputInvalid(message) from error
        key = mail_id(self.entropy.token() if dedupe_id is None else dedupe_id)
        end = self._deadline(deadline)
        from flux_core.signalling import deliver

        mail = Mail(name, key, 0, body)
        loaded, movable = deliver(self.storage, self.clock, ref, mail, advance=advance, nudge=nudge)
        return self._ticked(ref, definition, loaded, end, begun, always=movable, advance=advance)

    def callback(
        self, token: str, payload: object = None, *, deadline: DeadlineLike | None = None, advance: bool = True
    ) -> FluxResult:
        """Send the signal that a link of `ctx.callback_url` stands for; the token is what follows `/callbacks/` in it.

        Using it again with the same payload changes nothing, with another it is a `Conflict`. `InvalidToken` for what
        this engine has not signed, `ExpiredToken` once its time is over or its step was retried.
        """
        if self.callbacks is None:
            message = "this engine has no keys to read callback tokens with; give it FluxEngine(callbacks=...)"
            raise InvalidToken(message)
        ticket = self.callbacks.read(token, self.clock.now())
        if ticket.tenant != self.tenant:
            message = f"this callback token belongs to another tenant than {self.tenant!r}, whose engine this is"
            raise InvalidToken(message)
        ref = self._ref(self._workflow(ticket.workflow), ticket.id)
        state = load(self.storage, ref).state
        if state.discarded.get(ticket.path, 0) != ticket.occurrence or (
            state.generation != ticket.generation and self._begun_anew(ref, ticket)
        ):
            from flux_core.callbacks import spent

            raise spent(ticket)
        return self.signal(
            ticket.workflow, ticket.id, ticket.signal, payload, ticket.dedupe_id,
            deadline=deadline, advance=advance, nudge=True,
        )  # fmt: skip

    def retry_step(
        self,
        workflow: Workflow,
        id: str,
        step: str,
        *,
        data: Mapping[str, object] | None = None,
        force: bool = False,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Restore the data to what it was before `step`, then run it and the later ones; succeeded commits are kept.

        `data` sets top-level keys on top of what was restored; a commit that is kept applies its own changes again at
        its turn. After a rollback it starts at the earliest compensated step at or before `step`. `force` also re-runs
        `step` if it is a commit that succeeded, and is needed where the table of verbs says so. `Refused` says why not,
        `InputInvalid` which key of `data` cannot be kept. `who` and `why` are kept in the log (see `audit`).
        """
        definition = self._workflow(workflow)
        definition.step(step)
        patch = _checked_data(definition.name, id, step, data)

        def request(state: WorkflowState, log: Log) -> Event:
            check_verb("retry_step", state, force=force)
            return RetryRequested(step, log(), why, who, force=force, data=patch)

        return self._control(definition, id, request, deadline, advance=advance)

    def resume(
        self,
        workflow: Workflow,
        id: str,
        from_step: str | int | None = None,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Go on: a failed instance from its failed step (or `from_step`, a name or 0-based place). Tick others."""
        definition = self._workflow(workflow)
        target = _step_name(definition, from_step)
        ref = self._ref(definition, id)
        state = load(self.storage, ref).state
        if check_verb("resume", state) != ALLOWED:
            return self.wake(definition, id, deadline=deadline, advance=advance)

        def request(state: WorkflowState, log: Log) -> Event | None:
            if check_verb("resume", state) != ALLOWED:
                return None  # somebody else has resumed it meanwhile
            return RetryRequested(target or failed_step(state), log(), why, who, force=False)

        return self._control(definition, id, request, deadline, advance=advance)

    def cancel(
        self,
        workflow: Workflow,
        id: str,
        reason: str | None = None,
        *,
        who: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Stop the instance and undo its completed steps in reverse; a running one notices at its next checkpoint."""
        definition = self._workflow(workflow)

        def request(state: WorkflowState, _log: Log) -> Event | None:
            cell = check_verb("cancel", state)
            return None if cell == NO_OP or state.undoing else CancelRequested(reason, who)

        return self._control(definition, id, request, deadline, advance=advance)

    def pause(
        self,
        workflow: Workflow,
        id: str,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Let nothing more begin until `unpause`: at once, or after the step that is running.

        Signals are kept and timers go on counting meanwhile; what is due then happens after the pause. `Refused` for
        an instance that has ended, is being undone, is stuck or blocked.
        """

        def request(state: WorkflowState, _log: Log) -> Event | None:
            cell = check_verb("pause", state)
            return None if cell == NO_OP or state.paused or state.undoing else PauseRequested(why, who)

        return self._control(self._workflow(workflow), id, request, deadline, advance=advance)

    def unpause(
        self,
        workflow: Workflow,
        id: str,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """End a pause and go on; also take back a pause that has not begun. Without a pause it changes nothing."""

        def request(state: WorkflowState, _log: Log) -> Event | None:
            return UnpauseRequested(why, who) if state.paused and not state.terminal else None

        return self._control(self._workflow(workflow), id, request, deadline, advance=advance)

    def complete_step(
        self,
        workflow: Workflow,
        id: str,
        step: str,
        output: object = None,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Put on record, by hand, that `step` (or its failed compensation) succeeded with `output`, and go on."""
        try:
            value = encode_value(output, "the output").value
        except Unserialisable as error:
            message = f"complete_step of step {step!r}, id {id!r}: {error}"
            raise InputInvalid(message) from error
        return self._resolve(workflow, id, step, s.COMPLETED, value, who, why, deadline, advance=advance)

    def skip_step(
        self,
        workflow: Workflow,
        id: str,
        step: str,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Put on record, by hand, that `step` (or its failed compensation) is left out, and go on."""
        return self._resolve(workflow, id, step, s.SKIPPED, None, who, why, deadline, advance=advance)

    def wake(
        self,
        workflow: Workflow,
        id: str,
        *,
        tenant: str | None = None,
        deadline: DeadlineLike | None = None,
        advance: bool = True,
    ) -> FluxResult:
        """Tick an instance: whatever can go on, goes on. Harmless at any time.

        `tenant`: of another one's instance, as the due index holds those of all.
        """
        begun = self.clock.monotonic()
        definition = self._workflow(workflow)
        ref = self._ref(definition, id)
        if tenant is not None:
            ref = ref._replace(tenant=check_key("tenant", tenant))
        end = self._deadline(deadline)
        return self._ticked(ref, definition, load(self.storage, ref), end, begun, advance=advance)

    def sweep(
        self, limit: int = 1000, *, ahead: float | timedelta = 120.0, deadline: DeadlineLike | None = None
    ) -> int:
        """The sweeper's verb: see to it that what is due goes on; how many instances that are.

        With a scheduler they are given to the queue, those too that will be due in `ahead` seconds, with the delay
        that is left (PROTOCOL rule 8): so timers of any length are precise. `SchedulerUnavailable` if it does not
        answer. Without one they are ticked here, as `recover` does.
        """
        end = self._deadline(deadline)
        if self._waker.scheduler is None:
            return len(self._sweeper.recover(limit, end))
        return self._sweeper.ask(self._waker.scheduler, limit, seconds(ahead, "sweep(ahead=...)"), end)

    def recover(
        self,
        limit: int = 100,
        *,
        deadline: DeadlineLike | None = None,
        on_result: Callable[[FluxResult], object] | None = None,
    ) -> list[FluxResult]:
        """Tick up to `limit` instances that are due: fired timers, dead invocations, hand-overs. The sweeper's verb.

        Instances of workflows that this engine does not know, or that cannot be read, are logged and passed over.
        `on_result` is told each result as it comes; what it raises ends the sweep.
        """
        return self._sweeper.recover(limit, self._deadline(deadline), on_result)

    if TYPE_CHECKING:

        @overload
        def execute_batch(
            self, workflow: Declared[Input], inputs: Iterable[Input | Mapping[str, object]],
            *, ids: Sequence[str] | Callable[[Any], str] | None = None, concurrency: int = 8,
            on_progress: Callable[[int, int], object] | None = None,
        ) -> BatchResult: ...  # fmt: skip
        @overload
        def execute_batch(
            self, workflow: str, inputs: Iterable[object],
            *, ids: Sequence[str] | Callable[[Any], str] | None = None, concurrency: int = 8,
            on_progress: Callable[[int, int], object] | None = None,
        ) -> BatchResult: ...  # fmt: skip

    def execute_batch(
        self,
        workflow: Workflow,
        inputs: Iterable[object],
        *,
        ids: Sequence[str] | Callable[[Any], str] | None = None,
        concurrency: int = 8,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> BatchResult:
        """Execute many, up to `concurrency` at a time; one that raises does not stop the others.

        `ids` names the instances: one a input, or a function of the input. `on_progress(done, total)` is told.
        """
        definition = self._workflow(workflow)
        todo = list(inputs)
        if callable(ids):
            names: list[str | None] = [ids(item) for item in todo]
        else:
            names = [None] * len(todo) if ids is None else list(ids)
        if len(names) != len(todo):
            message = f"execute_batch() got {len(todo)} inputs and {len(names)} ids; give one id an input"
            raise CallerError(message)
        from flux_core.batch import run_batch

        def one(index: int) -> BatchItem:
            try:
                return BatchItem(index, self.execute(definition, todo[index], names[index]), None)
            except Exception as error:  # noqa: BLE001 -- one input's error is that input's result
                return BatchItem(index, None, error)

        def progress(done: int, total: int) -> None:
            try:
                if on_progress is not None:
                    on_progress(done, total)
            except Exception as error:  # noqa: BLE001 -- a progress bar must not lose the results
                self.logger.error("on_progress raised; the batch goes on", error=repr(error))

        return BatchResult(run_batch(one, len(todo), concurrency, progress))

    if TYPE_CHECKING:

        @overload
        def instance(self, workflow: Declared[Input], id: str) -> Instance[Input]: ...
        @overload
        def instance(self, workflow: str, id: str) -> Instance: ...

    def instance(self, workflow: Workflow, id: str) -> Instance:
        """A handle whose methods are the verbs for this one instance: `run.signal("approval")`."""
        definition = self._workflow(workflow)
        from flux_core.instance import Instance

        return Instance(self, definition, check_key("id", id))

    @property
    def aio(self) -> AsyncEngine:
        """The verbs as coroutines: `await engine.aio.execute(...)`."""
        from flux_core.aio import AsyncEngine

        return AsyncEngine(self)

    # --- verbs that look, and the one that removes --------------------------------------------------------

    def get(self, workflow: Workflow, id: str) -> FluxResult:
        """The instance as it is; `UnknownInstance` if there is none."""
        begun = self.clock.monotonic()
        definition = self._workflow(workflow)
        state = load(self.storage, self._ref(definition, id)).state
        return FluxResult(state, definition, self.clock.monotonic() - begun)

    def audit(self, workflow: Workflow, id: str) -> Sequence[AuditEntry]:
        """What people did to the instance by hand, oldest first: verb, step, who, why and when."""
        ref = self._ref(self._workflow(workflow), id)
        log = load_log(self.storage, ref)
        if not log:
            raise unknown_instance(ref)
        return audit(log)

    def list(
        self,
        name: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> InstancePage:
        """Instances of this tenant, newest first, as of their last episode boundary; a page at a time."""
        statuses = None if status is None else [status] if isinstance(status, str) else list(status)
        for one in statuses or ():
            if one not in s.STATUSES:
                message = f"there is no status {one!r}; the statuses are {', '.join(s.STATUSES)}"
                raise CallerError(message)
        page = self.storage.list(self.tenant, name, statuses, limit, cursor)
        items = [
            InstanceSummary(*ref, header.status, header.created_at, header.updated_at, header.due)
            for ref, header in page.items
        ]
        return InstancePage(items, page.cursor)

    def delete(self, workflow: Workflow, id: str, *, force: bool = False) -> None:
        """Remove an instance that has ended (a stuck one with `force`) and is older than the longest invocation."""
        definition = self._workflow(workflow)
        ref = self._ref(definition, id)
        try:
            state = load(self.storage, ref).state
        except PurgeUnfinished as begun:
            if self.storage.purge(ref, begun.seq):
                return
            raise
        check_verb("delete", state, force=force)
        young = self._longest_invocation - (self.clock.now() - state.updated_at) / 1000
        if young > 0:
            message = (
                f"delete is refused for workflow {definition.name!r}, id {id!r} for another {young:.0f} s: an "
                f"invocation that began before it ended may still be running (longest_invocation=... says how long)"
            )
            raise Refused(message)
        if not self.storage.purge(ref, state.seq):
            message = f"workflow {definition.name!r}, id {id!r} was changed meanwhile; look at it again"
            raise Refused(message)

    def check(self, workflow: Workflow, id: str) -> Continuation:
        """Whether `workflow`, as it is declared here, can continue the instance; if not, why and what to write."""
        definition = self._workflow(workflow)
        state = load(self.storage, self._ref(definition, id)).state
        found = continuation(definition, state)
        if definition.validator is not None:
            try:
                definition.validator.parse(state.input)
            except InputInvalid as error:
                found.problems.append(f"its input is no longer accepted: {error}; let .input(...) accept it")
        return found

    def describe(self, workflow: Workflow) -> dict[str, Any]:
        """The definition as plain data, with this engine's defaults filled in."""
        return self._workflow(workflow).describe()

    def redacted(self, value: object) -> object:
        """`value` as it may be shown to people: `[redacted]` stands for what is under the keys of `redact=`.

        It comes back as it is, or as a copy. For whatever prints data: the verbs themselves return all of it.
        """
        return self.redaction.value(value)

    @property
    def scheduler(self) -> Scheduler | None:
        """The queue that goes on with instances in other invocations, if there is one."""
        return self._waker.scheduler

    @property
    def scheduled(self) -> bool:
        """Whether there is such a queue."""
        return self._waker.scheduler is not None

    @property
    def workflows(self) -> Mapping[str, WorkflowDefinition]:
        """The workflows this engine knows, by name."""
        return {name: bound for name, (_, bound) in dict(self._registry).items()}

    # --- what verbs share ------------------------------------------------------------------------------------------

    def _workflow(self, workflow: Workflow) -> WorkflowDefinition:
        if isinstance(workflow, str):
            known = self._registry.get(workflow)
            if known is None:
                there = ", ".join(sorted(self._registry)) or "none"
                message = (
                    f"no workflow {workflow!r} is registered with this engine (registered: {there}); name one of "
                    f"these, or pass FluxEngine(workflows=[...]) the one you mean"
                )
                raise UnknownWorkflow(message)
            return known[1]
        if not isinstance(workflow, WorkflowBuilder | WorkflowDefinition):
            message = f"a workflow is what create_workflow(...) returns, or a registered name; got {workflow!r}"
            raise DefinitionError(message)
        definition = workflow.build()
        entry = self._registry.get(definition.name)
        if entry is None or (definition is not entry[0] and definition is not entry[1]):
            entry = self._registry[definition.name] = definition, definition.bound(self._defaults)
            for step in entry[1].by_path.values():
                if step.child is not None and not isinstance(step.child.workflow, str):
                    self._workflow(step.child.workflow)
        return entry[1]

    def _known(self, workflow: object) -> WorkflowDefinition:
        """The workflow of a child step."""
        return self._workflow(workflow)  # type: ignore[arg-type]  # checked when it was declared

    def _ref(self, definition: WorkflowDefinition, id: str) -> InstanceRef:
        return InstanceRef(self.tenant, definition.name, check_key("id", id))

    # --- control verbs ------------------------------------------------------------------------------------

    def _resolve(
        self,
        workflow: Workflow,
        id_: str,
        step: str,
        how: str,
        output: object,
        who: str | None,
        why: str | None,
        deadline: DeadlineLike | None,
        *,
        advance: bool,
    ) -> FluxResult:
        definition = self._workflow(workflow)
        definition.step(step)

        def request(state: WorkflowState, log: Log) -> Event:
            verb = "complete_step" if how == s.COMPLETED else "skip_step"
            check_verb(verb, state, step=step)
            return StepResolved(step, how, output, who, why, log())

        return self._control(definition, id_, request, deadline, advance=advance)

    def _control(
        self,
        definition: WorkflowDefinition,
        id_: str,
        request: Request,
        deadline: DeadlineLike | None,
        *,
        advance: bool,
    ) -> FluxResult:
        """Append what a verb asks for to the log itself, then tick (PROTOCOL rule 6)."""
        begun = self.clock.monotonic()
        ref = self._ref(definition, id_)
        end = self._deadline(deadline)
        loaded = self._requests.request(ref, definition, request)
        return self._ticked(ref, definition, loaded, end, begun, always=not loaded.state.owned, advance=advance)

    def _begun_anew(self, ref: InstanceRef, ticket: Ticket) -> bool:
        """Whether the step has been retried since, although it had not succeeded: only the log knows."""
        resets = [record.body["reset"] for record in load_log(self.storage, ref) if "reset" in record.body]
        return any(ticket.path in reset for reset in resets[ticket.generation :])

    def _deadline(self, limit: DeadlineLike | None) -> Deadline | None:
        """One that has passed already is fine: nothing is begun. `CallerError` for what is no duration."""
        if limit is None:
            return None
        whole = getattr(limit, "total_seconds", None)
        left: Any = limit if whole is None else whole()
        if not callable(left) and type(left) not in {int, float}:
            message = f"deadline must be seconds, a timedelta, or a function that tells the seconds left; got {limit!r}"
            raise CallerError(message)
        return Deadline(left, self.clock)

    def _ticked(
        self,
        ref: InstanceRef,
        definition: WorkflowDefinition,
        loaded: Loaded,
        end: Deadline | None,
        begun: float,
        *,
        always: bool = True,
        advance: bool = True,
    ) -> FluxResult:
        state = loaded.state
        if always or is_due(state, self.clock.now()):
            if advance:
                state = self._loop.tick(ref, definition, loaded, end)
            else:
                self._waker.now(ref)
        return FluxResult(state, definition, self.clock.monotonic() - begun)

    @property
    def _sweeper(self) -> Sweeper:
        """Made at need: most invocations sweep nothing."""
        from flux_core.sweeping import Sweeper

        return Sweeper(self.storage, self.clock, self.logger, self._loop, self._registered)

    def _registered(self, name: str) -> WorkflowDefinition | None:
        known = self._registry.get(name)
        return None if known is None else known[1]


def _checked_data(workflow: str, id_: str, step: str, data: Mapping[str, object] | None) -> dict[str, object] | None:
    """The keys of `retry_step(data=...)` as records will hold them."""
    if data is None:
        return None
    where = f"retry_step of step {step!r}, workflow {workflow!r}, id {id_!r}"
    if not hasattr(data, "items") or any(type(key) is not str for key in data):
        message = f"{where}: data must be a mapping whose keys are strings, the keys of ctx.data to set; got {data!r}"
        raise InputInvalid(message)
    try:
        return {key: encode_value(value, f"data[{key!r}]").value for key, value in data.items()}
    except Unserialisable as error:
        message = f"{where}: {error}"
        raise InputInvalid(message) from error


def _step_name(definition: WorkflowDefinition, step: str | int | None) -> str | None:
    """A step given by name or 0-based place; `UnknownStep` if there is none."""
    if isinstance(step, int):
        if not 0 <= step < len(definition.steps):
            message = f"workflow {definition.name!r} has no step number {step}; it has 0 to {len(definition.steps) - 1}"
            raise UnknownStep(message)
        return definition.steps[step].name
    return None if step is None else definition.step(step).path
