"""What the attempts of a step (or its compensation) may do, and what their outcomes mean: intents, retries, doubts.

Pure like all of the machine. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import FINISH, HAND_OVER, PROCEED, BackOff, Decision, EvaluateCondition, Probe, RunStep
from flux_core.directives import FAIL, Verify
from flux_core.events import StepSucceeded, TimeRanOut
from flux_core.machine.forks import holding, is_over
from flux_core.records import Record
from flux_core.state import ErrorInfo
from flux_core.workflow import PARALLEL, UNDO, WHILE, letter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from flux_core.events import BackedOff, Decided, Probed, StepFailed
    from flux_core.options import OnUnknown
    from flux_core.retry import RetryPolicy
    from flux_core.state import WorkflowState
    from flux_core.workflow import StepDefinition, WorkflowDefinition

DIED: Final = ErrorInfo("Unknown", "the invocation ended while the attempt was under way")


def begin(
    state: WorkflowState, step: StepDefinition, attempt: int, now: int, *, undo: bool = False, held: bool = False
) -> Decision:
    """Call the handler; for a commit or a compensation, with its intent on record first (rule 9)."""
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


def succeeded(state: WorkflowState, event: StepSucceeded, now: int) -> Decision:
    """The outcome goes on record: output, changed data, or that the step waits."""
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


def decided(workflow: WorkflowDefinition, state: WorkflowState, event: Decided, now: int) -> Decision:
    """The decision goes on record with what it enters, so that no resume makes it again, nor needs the definition."""
    if is_over(state, event.path):
        return Decision(PROCEED)
    step, choice = workflow.by_path[event.path], event.choice
    frame = state.frames.get(event.path)
    if step.kind == WHILE and choice and frame is not None and frame.number + 1 >= step.max_iterations:
        message = (
            f"the condition of {step.path!r} still holds after {step.max_iterations} iterations, which is the most "
            f"(max_iterations)"
        )
        error = ErrorInfo("LoopLimit", message, step.path)
        return _give_up(workflow, state, step, event.attempt, error, event.run_ms, now, undo=False)
    body: dict[str, Any] = {
        "p": event.path, "a": event.attempt, "ms": event.run_ms, "k": letter(step), "c": choice,
    }  # fmt: skip
    if event.items is not None:
        body["items"] = event.items
    if step.kind == PARALLEL:
        body["bodies"] = {branch: [inside.names, inside.kinds] for branch, inside in (step.bodies or {}).items()}
    elif (entered := step.entered(choice if event.items is None else 1)) is not None:
        body["names"], body["kinds"] = entered.names, entered.kinds
    if step.max_concurrency:
        body["mc"] = step.max_concurrency
    if step.wait_all:
        body["all"] = 1
    return Decision(PROCEED, Record(r.DECIDE, state.epoch, now, body))


def _success(state: WorkflowState, event: StepSucceeded, body: dict[str, Any], now: int) -> Record:
    if event.undo:
        body.pop("o", None)
        return Record(r.COMP, state.epoch, now, body)
    directive = event.directive
    if directive is not None:
        default = None if directive.on_timeout is FAIL else [directive.on_timeout]
        body["w"] = [list(directive.signals), directive.due(now), default]
        if event.commit:
            body["c"] = 1
    return Record(r.STEP, state.epoch, now, body)


def failed(workflow: WorkflowDefinition, state: WorkflowState, event: StepFailed, now: int) -> Decision:
    """Try again, give up, or, if the effect may have happened, find out."""
    step, undo = workflow.by_path[event.path], event.undo
    if event.cut and not step.commit and not undo:
        # Not an attempt, but a death: a step that no invocation is long enough for must not go on for ever (rule 10).
        return Decision(HAND_OVER, Record(r.YIELD, state.epoch, now, {"cut": event.path}, (state.status, now)))
    if event.unknown and (step.commit or undo):
        return unknown(
            state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo,
            retryable=event.retryable,
        )  # fmt: skip
    if event.retryable and event.attempt <= _retries(step, undo=undo) and (undo or not is_over(state, step.path)):
        return _try_again(state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo)
    return _give_up(workflow, state, step, event.attempt, event.error, event.run_ms, now, undo=undo)


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
    if turns_back(workflow, state, step.path):
        body["rb"] = 1
    return Decision(PROCEED, Record(r.STEP, state.epoch, now, body))


def unknown(
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
    if isinstance(policy, Verify) and not (undo and step.compensate is None):
        return Decision(Probe(step, attempt, error, undo=undo, retryable=retryable))
    for_nothing = not undo and step.compensate is None and is_over(state, step.path)
    gone = undo and step.compensate is None
    if policy == "quarantine" or gone or for_nothing or not retryable or attempt > _retries(step, undo=undo):
        return _quarantine(state, step, error, now, undo=undo)
    if again_at_once:
        decision = begin(state, step, attempt + 1, now, undo=undo, held=True)
        decision.records[0].body["u"] = 1
        return decision
    return _try_again(state, step, attempt, error, jitter, remaining, now, undo=undo, unknown=True)


def _quarantine(state: WorkflowState, step: StepDefinition, error: ErrorInfo, now: int, *, undo: bool) -> Decision:
    what = f"the compensation of step {step.path!r}" if undo else f"step {step.path!r}"
    detail = (
        f"nobody knows whether {what} took effect ({error.type}: {error.message}); find out from the other side, then "
        f"complete the step (it did), skip it, or retry it (it did not)"
    )
    body = {"why": "unknown_outcome", "p": step.path, "d": detail, "e": error.to_tree()}
    return Decision(FINISH, Record(r.STUCK, state.epoch, now, body, (s.STUCK, None)))


def probed(workflow: WorkflowDefinition, state: WorkflowState, event: Probed, now: int) -> Decision:
    """What the probe said settles the attempt, or quarantines the instance."""
    step, undo = workflow.by_path[event.path], event.undo
    if event.verdict == "unknown":
        return _quarantine(state, step, event.error, now, undo=undo)
    if event.verdict == "done":
        success = StepSucceeded(
            event.path, event.attempt, 0, event.output, event.output_text, event.delta, undo=undo
        )  # fmt: skip
        return succeeded(state, success, now)
    again = event.retryable and event.attempt <= _retries(step, undo=undo)
    if again and (undo or not is_over(state, step.path)):
        return _try_again(state, step, event.attempt, event.error, event.jitter, event.remaining, now, undo=undo)
    return _give_up(workflow, state, step, event.attempt, event.error, 0, now, undo=undo)


def backed_off(workflow: WorkflowDefinition, state: WorkflowState, event: BackedOff, now: int) -> Decision:
    """The next attempt, unless a cancel came during the pause."""
    step, undo = workflow.by_path[event.path], event.undo
    if not undo and is_over(state, step.path):
        # A cancel, or the failure of another lane, came during the pause.
        if event.unresolved and step.compensate is None:
            return _quarantine(state, step, event.error, now, undo=undo)
        if not event.unresolved:
            return _give_up(workflow, state, step, event.attempt - 1, event.error, 0, now, undo=undo)
    if state.paused and not undo:
        return hand_over(state, TimeRanOut(event), now)
    # The condition is asked before every attempt, but not while an earlier one may have taken effect.
    decision = begin(state, step, event.attempt, now, undo=undo, held=event.unresolved)
    if event.unresolved and decision.records:
        decision.records[0].body["u"] = 1
    return decision


def hand_over(state: WorkflowState, event: TimeRanOut, now: int) -> Decision:
    """Let another invocation go on (or, if it is paused, none); what this one knows of a failed attempt is kept."""
    if state.paused:
        released = Record(r.SUSP, state.epoch, now, {}, (s.PAUSED, None))
    else:
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


def turns_back(workflow: WorkflowDefinition, state: WorkflowState, path: str) -> bool:
    """Whether a failure at `path` begins to undo something: not if it is held back until other lanes have ended."""
    return not state.undoing and holding(state, path) is None and undoable(workflow, state)


def undoable(workflow: WorkflowDefinition, state: WorkflowState) -> bool:
    """Whether something took effect that a compensator can undo, kept by a retry or not."""
    return any(workflow.by_path[path].compensate is not None for path in (*state.completed, *state.kept))


def _retries(step: StepDefinition, *, undo: bool) -> int:
    retries = step.compensate.retries if undo and step.compensate is not None else step.retries
    return retries or 0


def _policy(step: StepDefinition, *, undo: bool) -> RetryPolicy:
    policy = step.compensate.retry if undo and step.compensate is not None else step.retry
    if policy is None:
        message = f"step {step.path!r} is not bound to an engine's defaults"
        raise AssertionError(message)
    return policy


def _key(path: str, *, undo: bool) -> str:
    return path + UNDO if undo else path
