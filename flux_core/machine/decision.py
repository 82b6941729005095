"""`decide(workflow, state, event, now)`: which records an event is worth, and what to do after them.

It changes neither its workflow nor its state. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import (
    FINISH,
    HAND_OVER,
    PROCEED,
    BackOff,
    Decision,
    EvaluateCondition,
    Ignore,
    Probe,
    ReadMail,
    Rest,
    RunStep,
)
from flux_core.directives import FAIL, Verify
from flux_core.events import (
    Advanced,
    BackedOff,
    CancelRequested,
    ConditionHeld,
    Event,
    InputRejected,
    MailRead,
    Probed,
    RetryRequested,
    StepFailed,
    StepResolved,
    StepSkipped,
    StepSucceeded,
    TimeRanOut,
    WokenUp,
)
from flux_core.machine.rewind import resolution, retrial
from flux_core.records import Record
from flux_core.state import ErrorInfo, Lease
from flux_core.workflow import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, Never, NoReturn

    from flux_core.options import OnUnknown
    from flux_core.ports import Mail
    from flux_core.retry import RetryPolicy
    from flux_core.state import Kept, OpenWait, WorkflowState
    from flux_core.workflow import StepDefinition, WorkflowDefinition

MOST_SIGNALS: Final = 10_000
"""The ids of consumed mail stay in the state, so an instance takes no more (rule 4)."""

MOST_DEATHS: Final = 5
"""Deaths without progress after which an instance is stuck (rule 10)."""

_LONGEST_PAUSE = 3_600_000
_DIED = ErrorInfo("Unknown", "the invocation ended while the attempt was under way")


def decide(workflow: WorkflowDefinition, state: WorkflowState, event: Event, now: int) -> Decision:
    """What `event` means for the instance in `state` at `now`, in ms since the epoch."""
    match event:
        case StepSucceeded():
            return _succeeded(state, event, now)
        case Advanced():
            return _advance(workflow, state, now)
        case StepFailed():
            return _failed(workflow, state, event, now)
        case StepSkipped():
            body = {"p": event.path, "ms": event.run_ms}
            return Decision(PROCEED, Record(r.SKIPPED, state.epoch, now, body))
        case ConditionHeld():
            if state.undoing:
                return _advance(workflow, state, now)
            return _begin(state, workflow.by_path[event.path], event.attempt, now, held=True)
        case BackedOff():
            return _backed_off(workflow, state, event, now)
        case Probed():
            return _probed(workflow, state, event, now)
        case MailRead():
            return _mail_read(workflow, state, event, now)
        case WokenUp():
            return _woken(workflow, state, event, now)
        case InputRejected():
            detail = f"{event.detail}; deploy a definition that accepts the stored input, then retry the step"
            body = {"why": "input_rejected", "p": event.path, "d": detail}
            return Decision(FINISH, Record(r.STUCK, state.epoch, now, body, (s.STUCK, None)))
        case TimeRanOut():
            return _hand_over(state, event, now)
        case CancelRequested():
            body = {"why": event.why, "by": event.by}
            # The owner's lease has an entry in the due index already; an instance without owner needs one now.
            header = None if state.owned else (s.ROLLING_BACK, now)
            return Decision(PROCEED, Record(r.CANCELREQ, state.epoch, now, body, header))
        case RetryRequested():
            body = retrial(workflow, state, event)
            return Decision(PROCEED, Record(r.RETRY, state.epoch, now, body, (s.RUNNING, now)))
        case StepResolved():
            body, status = resolution(workflow, state, event)
            due = None if status in s.TERMINAL else now
            return Decision(PROCEED, Record(r.RESOLVE, state.epoch, now, body, (status, due)))
        case _:
            return _never(event)


def _never(event: Never) -> NoReturn:
    message = f"there is no rule for {event!r}"
    raise AssertionError(message)


def start(workflow: WorkflowDefinition, input_: object, input_hash: str, lease: Lease, now: int) -> Record:
    """The first record of an instance; it contains the first claim (rule 1)."""
    body: dict[str, Any] = {
        "ver": workflow.version,
        "fp": workflow.fingerprint,
        "names": [step.name for step in workflow.steps],
        "in": input_,
        "ih": input_hash,
        **_term(lease),
    }
    return Record(r.START, 1, now, body, (s.RUNNING, lease.end(now)))


def renewal(state: WorkflowState, now: int) -> Record:
    """The watchdog's record while one step outlasts half the lease (rule 14)."""
    return Record(r.RENEW, state.epoch, now, {})


def takeover_at(state: WorkflowState) -> int:
    """When an owned instance may be claimed: its lease's end, later with every death (rules 10 and 14)."""
    return state.lease_until + _pause(state.deaths)


def timer(state: WorkflowState) -> int | None:
    """The earliest time at which a resting instance needs a tick, if there is one."""
    times = list(state.retry_at.values())
    if not state.undoing:
        times += [wait.due for wait in state.waits.values() if wait.due is not None]
    return min(times, default=None)


def may_start(
    timeout: float | None, observed: float, remaining: float, margin: float, *, commit: bool, first: bool
) -> bool:
    """Whether a step may start when `remaining` seconds of the invocation are left (rule 15).

    `observed` is the longest this invocation has seen the step run, `margin` what saving and answering need.
    """
    spare = remaining - margin
    if first:
        return spare > 0
    if commit:
        return timeout is not None and spare >= timeout
    return spare > 0 and spare >= (observed if timeout is None else min(timeout, observed))


def _term(lease: Lease) -> dict[str, Any]:
    return {"l": lease.ms} if lease.cap is None else {"l": lease.ms, "dl": lease.cap}


def _pause(count: int) -> int:
    """Milliseconds after `count` futile tries: none, then 1 s, doubling up to an hour."""
    return 0 if count == 0 else min(1000 * 2 ** min(count - 1, 20), _LONGEST_PAUSE)


# --- waking up --------------------------------------------------------------------------------------------


def _woken(workflow: WorkflowDefinition, state: WorkflowState, event: WokenUp, now: int) -> Decision:
    if state.terminal or state.status == s.STUCK:
        return Decision(Ignore(f"it is {state.status}", None))
    if state.owned and now < takeover_at(state):
        return Decision(Ignore("another invocation owns it", takeover_at(state)))
    if state.fingerprint != workflow.fingerprint:
        return _blocked(workflow, state, now)
    resting = not state.owned and (bool(state.retry_at) if state.undoing else state.status == s.SUSPENDED)
    due = timer(state)
    if resting and (due is None or due > now):
        if not state.undoing and any(wait.signals for wait in state.waits.values()):
            return Decision(ReadMail(resting=True))
        return Decision(Rest(None, due))
    return _claim(state, event.lease, now)


def _claim(state: WorkflowState, lease: Lease, now: int) -> Decision:
    deaths = state.deaths + 1 if state.owned else state.deaths
    status = s.ROLLING_BACK if state.undoing else s.RUNNING
    epoch = state.epoch + 1
    claim = Record(r.CLAIM, epoch, now, _term(lease), (status, lease.end(now)))
    if deaths < MOST_DEATHS:
        return Decision(PROCEED, claim)
    at = state.names[state.cursor] if state.cursor < len(state.names) else None
    detail = (
        f"{deaths} invocations died without progress, the last at step {at!r}; find out why (memory? time-outs of the "
        f"platform?), then retry, complete or skip that step, or cancel the workflow"
    )
    stuck = Record(r.STUCK, epoch, now, {"why": "poison", "p": at, "d": detail}, (s.STUCK, None))
    return Decision(FINISH, claim, stuck)


def _blocked(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Decision:
    again = state.updated_at + _pause(state.pauses)
    if state.status == s.BLOCKED and now < again:
        return Decision(Ignore("its definition has changed", again))
    due = now + _pause(state.pauses + 1)
    detail = (
        f"the steps of workflow {workflow.name!r} have changed since the instance started: it has "
        f"{', '.join(state.names)} ({state.fingerprint}), the definition now has "
        f"{', '.join(step.name for step in workflow.steps)} ({workflow.fingerprint}); deploy the earlier definition "
        f"and the instance goes on by itself"
    )
    body = {"why": "definition_changed", "d": detail}
    record = Record(r.BLOCKED, state.epoch, now, body, (s.BLOCKED, due))
    return Decision(Ignore("its definition has changed", due), record)


# --- going on ---------------------------------------------------------------------------------------------


def _advance(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Decision:
    if state.intents:
        # The log ends with an attempt under way: whoever made it is gone, or is this invocation's own past.
        key, intent = next(iter(state.intents.items()))
        step = workflow.by_path[key.removesuffix(UNDO)]
        return _unknown(state, step, intent.attempt, _DIED, 0.0, None, now, undo=intent.undo, again_at_once=True)
    if state.undoing:
        for key in state.doubts:
            if not key.endswith(UNDO):
                # A cancel came while the next attempt of a commit was due: what became of the last one comes first.
                step = workflow.by_path[key]
                attempt = state.steps[key].attempt
                return _unknown(state, step, attempt, _DIED, 0.0, None, now, undo=False, again_at_once=True)
        return _undo_next(workflow, state, now)
    steps = workflow.steps
    if state.cursor >= len(steps):
        return Decision(FINISH, Record(r.END, state.epoch, now, {"s": s.COMPLETED}, (s.COMPLETED, None)))
    step = steps[state.cursor]
    path = step.path
    if state.kept and path in state.kept:
        return Decision(PROCEED, _again(state, path, state.kept[path], now))
    if state.waits:
        return _waiting(state, state.waits[path], path, now)
    attempt = 1
    if state.retry_at:
        due = state.retry_at[path]
        if due > now:
            return _suspend(state, now, due, mail=False)
        attempt = state.steps[path].attempt + 1
    return _begin(state, step, attempt, now)


def _begin(
    state: WorkflowState, step: StepDefinition, attempt: int, now: int, *, undo: bool = False, held: bool = False
) -> Decision:
    if not step.commit and not undo:
        return Decision(RunStep(step, attempt))
    if step.when is not None and not undo and not held and step.path not in state.doubts:
        return Decision(EvaluateCondition(step, attempt))
    body: dict[str, Any] = {"p": step.path, "a": attempt}
    if undo:
        body["undo"] = 1
    if _key(step.path, undo=undo) in state.doubts:
        body["u"] = 1
    return Decision(RunStep(step, attempt, undo=undo, held=True), Record(r.INTENT, state.epoch, now, body))


def _undoable(workflow: WorkflowDefinition, state: WorkflowState) -> bool:
    """Whether something took effect that a compensator can undo, kept by a retry or not."""
    return any(workflow.by_path[path].compensate is not None for path in (*state.completed, *state.kept))


def _key(path: str, *, undo: bool) -> str:
    return path + UNDO if undo else path


def _again(state: WorkflowState, path: str, kept: Kept, now: int) -> Record:
    """What a retry keeps is applied again at its turn, without running anything (rule 17)."""
    if kept.how == s.SKIPPED:
        return Record(r.SKIPPED, state.epoch, now, {"p": path, "ms": 0, "h": 1})
    body: dict[str, Any] = {"p": path, "a": kept.attempt, "ms": 0, "h": 1}
    if kept.output is not None:
        body["o"] = kept.output
    if kept.set:
        body["set"] = kept.set
    if kept.unset:
        body["del"] = kept.unset
    return Record(r.STEP, state.epoch, now, body)


def _undo_next(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Decision:
    for path in reversed(state.completed):
        step = workflow.by_path[path]
        if step.compensate is None:
            continue
        attempt = 1
        due = state.retry_at.get(path + UNDO)
        if due is not None:
            if due > now:
                return _suspend(state, now, due, mail=False)
            attempt = state.steps[path].undo_attempt + 1
        return _begin(state, step, attempt, now, undo=True)
    if state.cancel is not None:
        status = s.CANCELLED
    else:
        seen = {step.status for step in state.steps.values()}
        undone = s.COMPENSATED in seen and s.COMPENSATION_FAILED not in seen
        status = s.ROLLED_BACK if undone else s.FAILED
    return Decision(FINISH, Record(r.END, state.epoch, now, {"s": status}, (status, None)))


# --- what an attempt brought ------------------------------------------------------------------------------


def _succeeded(state: WorkflowState, event: StepSucceeded, now: int) -> Decision:
    path, delta, run_ms = event.path, event.delta, event.run_ms
    body: dict[str, Any] = {"p": path, "a": event.attempt, "ms": run_ms}
    text = f'"p":"{path}","a":{event.attempt},"ms":{run_ms}'
    if event.output_text is not None:
        body["o"] = event.output
        text += f',"o":{event.output_text}'
    if delta is not None:
        body["set"] = delta.set
        text += f',"set":{delta.text}'
        if delta.unset:
            body["del"] = delta.unset
            return Decision(PROCEED, _success(state, event, body, now))
    if event.undo or event.directive is not None:
        return Decision(PROCEED, _success(state, event, body, now))
    return Decision(PROCEED, Record(r.STEP, state.epoch, now, body, None, text))


def _success(state: WorkflowState, event: StepSucceeded, body: dict[str, Any], now: int) -> Record:
    if event.undo:
        body.pop("o", None)
        return Record(r.COMP, state.epoch, now, body)
    directive = event.directive
    if directive is not None:
        default = None if directive.on_timeout is FAIL else [directive.on_timeout]
        body["w"] = [list(directive.signals), directive.due(now), default]
    return Record(r.STEP, state.epoch, now, body)


def _failed(workflow: WorkflowDefinition, state: WorkflowState, event: StepFailed, now: int) -> Decision:
    step, undo = workflow.by_path[event.path], event.undo
    if event.cut and not step.commit and not undo:
        # Not an attempt, but a death: a step that no invocation is long enough for must not go on for ever (rule 10).
        return Decision(HAND_OVER, Record(r.YIELD, state.epoch, now, {"cut": event.path}, (state.status, now)))
    if event.unknown and (step.commit or undo):
        return _unknown(
            state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo,
            retryable=event.retryable,
        )  # fmt: skip
    if event.retryable and event.attempt <= _retries(step, undo=undo) and not (state.undoing and not undo):
        return _try_again(state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo)
    return _give_up(workflow, state, step, event.attempt, event.error, event.run_ms, now, undo=undo)


def _retries(step: StepDefinition, *, undo: bool) -> int:
    retries = step.compensate.retries if undo and step.compensate is not None else step.retries
    return retries or 0


def _hand_over(state: WorkflowState, event: TimeRanOut, now: int) -> Decision:
    released = Record(r.YIELD, state.epoch, now, {}, (state.status, now))
    tried = event.after
    if tried is None:
        return Decision(HAND_OVER, released)
    # The attempt that failed before the pause is put on record: it counts, and its intent is not left open.
    failed = _retry_wait(tried.path, tried.attempt - 1, tried.error, now, undo=tried.undo, unresolved=tried.unresolved)
    return Decision(HAND_OVER, Record(r.RETRY_WAIT, state.epoch, now, failed), released)


def _retry_wait(path: str, attempt: int, error: ErrorInfo, due: int, *, undo: bool, unresolved: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"p": path, "a": attempt, "e": error.to_tree(), "due": due}
    if undo:
        body["undo"] = 1
    if unresolved:
        body["u"] = 1
    return body


def _try_again(
    state: WorkflowState,
    step: StepDefinition,
    attempt: int,
    error: ErrorInfo,
    jitter: float,
    remaining: float | None,
    now: int,
    *,
    undo: bool,
    unknown: bool = False,
) -> Decision:
    delay = _policy(step, undo=undo).delay(attempt, jitter)
    unresolved = unknown or _key(step.path, undo=undo) in state.doubts
    if delay <= step.inline_backoff and (remaining is None or delay < remaining):
        return Decision(BackOff(step.path, attempt + 1, delay, error, undo=undo, unresolved=unresolved))
    body = _retry_wait(step.path, attempt, error, now + round(delay * 1000), undo=undo, unresolved=unresolved)
    return Decision(PROCEED, Record(r.RETRY_WAIT, state.epoch, now, body))


def _policy(step: StepDefinition, *, undo: bool) -> RetryPolicy:
    policy = step.compensate.retry if undo and step.compensate is not None else step.retry
    if policy is None:
        message = f"step {step.path!r} is not bound to an engine's defaults"
        raise AssertionError(message)
    return policy


def _give_up(
    workflow: WorkflowDefinition,
    state: WorkflowState,
    step: StepDefinition,
    attempt: int,
    error: ErrorInfo,
    run_ms: float,
    now: int,
    *,
    undo: bool,
) -> Decision:
    if _key(step.path, undo=undo) in state.doubts:
        return _quarantine(state, step, error, now, undo=undo)
    body: dict[str, Any] = {"p": step.path, "a": attempt, "ms": run_ms, "e": error.to_tree()}
    if undo:
        return Decision(PROCEED, Record(r.COMP, state.epoch, now, body))
    if not state.undoing and _undoable(workflow, state):
        body["rb"] = 1
    return Decision(PROCEED, Record(r.STEP, state.epoch, now, body))


def _unknown(
    state: WorkflowState,
    step: StepDefinition,
    attempt: int,
    error: ErrorInfo,
    jitter: float,
    remaining: float | None,
    now: int,
    *,
    undo: bool,
    again_at_once: bool = False,
    retryable: bool = True,
) -> Decision:
    """An attempt is neither success nor failure: `on_unknown` decides (rule 9)."""
    policy: OnUnknown = step.compensate.on_unknown if undo and step.compensate is not None else step.on_unknown
    if isinstance(policy, Verify):
        return Decision(Probe(step, attempt, error, undo=undo, retryable=retryable))
    for_nothing = state.undoing and not undo and step.compensate is None
    if policy == "quarantine" or for_nothing or not retryable or attempt > _retries(step, undo=undo):
        return _quarantine(state, step, error, now, undo=undo)
    if again_at_once:
        decision = _begin(state, step, attempt + 1, now, undo=undo, held=True)
        decision.records[0].body["u"] = 1
        return decision
    return _try_again(state, step, attempt, error, jitter, remaining, now, undo=undo, unknown=True)


def _quarantine(state: WorkflowState, step: StepDefinition, error: ErrorInfo, now: int, *, undo: bool) -> Decision:
    what = f"the compensation of step {step.path!r}" if undo else f"step {step.path!r}"
    detail = (
        f"nobody knows whether {what} took effect ({error.type}: {error.message}); find out from the other side, then "
        f"complete the step (it did), skip it, or retry it (it did not)"
    )
    body = {"why": "unknown_outcome", "p": step.path, "d": detail}
    return Decision(FINISH, Record(r.STUCK, state.epoch, now, body, (s.STUCK, None)))


def _probed(workflow: WorkflowDefinition, state: WorkflowState, event: Probed, now: int) -> Decision:
    step, undo = workflow.by_path[event.path], event.undo
    if event.verdict == "unknown":
        return _quarantine(state, step, event.error, now, undo=undo)
    if event.verdict == "done":
        success = StepSucceeded(
            event.path, event.attempt, 0, event.output, event.output_text, event.delta, undo=undo
        )  # fmt: skip
        return _succeeded(state, success, now)
    again = event.retryable and event.attempt <= _retries(step, undo=undo) and not (state.undoing and not undo)
    if again:
        return _try_again(state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo)
    return _give_up(workflow, state, step, event.attempt, event.error, 0, now, undo=undo)


def _backed_off(workflow: WorkflowDefinition, state: WorkflowState, event: BackedOff, now: int) -> Decision:
    step, undo = workflow.by_path[event.path], event.undo
    if state.undoing and not undo:
        # A cancel came during the pause.
        if event.unresolved and step.compensate is None:
            return _quarantine(state, step, event.error, now, undo=undo)
        if not event.unresolved:
            return _give_up(workflow, state, step, event.attempt - 1, event.error, 0, now, undo=undo)
    # The condition is asked before every attempt, but not while an earlier one may have taken effect.
    decision = _begin(state, step, event.attempt, now, undo=undo, held=event.unresolved)
    if event.unresolved and decision.records:
        decision.records[0].body["u"] = 1
    return decision


# --- waiting ----------------------------------------------------------------------------------------------


def _waiting(state: WorkflowState, wait: OpenWait, path: str, now: int) -> Decision:
    if wait.signals:
        return Decision(ReadMail(resting=False))
    if wait.due is not None and wait.due <= now:
        return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
    return _suspend(state, now, wait.due, mail=False)


def _suspend(state: WorkflowState, now: int, due: int | None, *, mail: bool) -> Decision:
    status = s.ROLLING_BACK if state.undoing else s.SUSPENDED
    if not mail:
        return Decision(Rest(due, due), Record(r.SUSP, state.epoch, now, {}, (status, due)))
    # The lease's entry stays until the second look into the mailbox: a signaller may have seen an owner that dies now.
    entry = state.lease_until if due is None else min(state.lease_until, due)
    return Decision(ReadMail(resting=True, due=entry), Record(r.SUSP, state.epoch, now, {}, (status, entry)))


def _mail_read(workflow: WorkflowDefinition, state: WorkflowState, event: MailRead, now: int) -> Decision:
    if event.resting:
        if any(_pick(state, wait, event) for wait in state.waits.values()):
            return _claim(state, event.lease, now)
        return Decision(Rest(event.due, timer(state)))
    if state.undoing or not state.waits:
        return _advance(workflow, state, now)
    for path, wait in state.waits.items():
        found = _pick(state, wait, event)
        if found is not None:
            mail, payload = found
            if len(state.consumed) >= MOST_SIGNALS:
                message = f"the instance has taken {MOST_SIGNALS} signals, which is the most; start another one"
                return _no_signal(workflow, state, path, ErrorInfo("TooManySignals", message, path), now)
            body = {"p": path, "m": mail_key(mail), "o": payload}
            return Decision(PROCEED, Record(r.RECV, state.epoch, now, body))
    for path, wait in state.waits.items():
        if wait.due is not None and wait.due <= now:
            if wait.default is not None:
                return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
            message = f"no signal {' or '.join(map(repr, wait.signals))} came in time"
            return _no_signal(workflow, state, path, ErrorInfo("WaitTimeout", message, path), now)
    return _suspend(state, now, timer(state), mail=True)


def _no_signal(workflow: WorkflowDefinition, state: WorkflowState, path: str, error: ErrorInfo, now: int) -> Decision:
    body: dict[str, Any] = {"p": path, "e": error.to_tree()}
    if _undoable(workflow, state):
        body["rb"] = 1
    return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, body))


def mail_key(mail: Mail) -> str:
    """How the state remembers consumed mail."""
    return f"{mail.name}/{mail.id}"


def _pick(state: WorkflowState, wait: OpenWait, event: MailRead) -> tuple[Mail, object] | None:
    """The first mail for `wait` that nobody has taken: by sender time, then id."""
    for mail, payload in event.mails:
        if mail.name in wait.signals and mail_key(mail) not in state.consumed:
            return mail, payload
    return None
