"""`crash_at_every_write`: a workflow, once for each thing that can go wrong at each of its storage calls.

Every run has to end as the undisturbed one did. It must not know what the workflow is for: what the outside has seen
is told by the user.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import records as r
from flux_core.errors import DefinitionError
from flux_core.load import load_log
from flux_core.ports import InstanceRef
from flux_core.testing.disturbance import KINDS, Disturbed, NeedsOperator, Schedule
from flux_core.testing.flux_test import END_OF_TIME
from flux_core.testing.run import Run
from flux_core.testing.spans import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flux_core.builder import WorkflowBuilder
    from flux_core.records import Record
    from flux_core.testing.disturbance import Resolve
    from flux_core.testing.faults import Call
    from flux_core.testing.flux_test import FluxTest
    from flux_core.workflow import WorkflowDefinition


class End(NamedTuple):
    """How a run ended: what has to be the same with and without a disturbance."""

    status: str
    data: dict[str, Any]
    steps: list[tuple[str, str, Any]]
    """Name, status and output of every step."""
    error: tuple[str, str | None] | None
    """Type of the error, and its step."""
    effects: Any
    """What the outside has seen, as `effects=` told it."""


class CrashReport:
    """What `crash_at_every_write` has found: nothing that differs, or it would have raised."""

    def __init__(self, workflow: str, end: End, calls: Sequence[str]) -> None:
        self.workflow = workflow
        self.end = end
        """How the undisturbed run ended."""
        self.calls = list(calls)
        """The storage calls of the undisturbed run, in words, the first is number 1."""
        self.runs = 0
        """Disturbed runs."""
        self.stuck: dict[str, str] = {}
        """Schedule -> step, for the runs that ended stuck because nobody knew whether a commit took effect."""
        self._last: Callable[[], str] | None = None

    @property
    def story(self) -> str:
        """The story of the last run."""
        return "" if self._last is None else self._last()

    def __str__(self) -> str:
        stuck = ""
        if self.stuck:
            steps = ", ".join(map(repr, dict.fromkeys(self.stuck.values())))
            stuck = f"; {len(self.stuck)} of them need an operator (unknown outcome of {steps})"
        return (
            f"{self.workflow}: {len(self.calls)} storage calls, {self.runs} disturbed runs, none ended otherwise{stuck}"
        )

    def __repr__(self) -> str:
        return f"<CrashReport {self}>"


def crash_at_every_write(
    workflow: WorkflowBuilder | WorkflowDefinition,
    input: object = None,
    *,
    signals: Sequence[str | tuple[str, object]] = (),
    drive: Callable[[FluxTest, Run], object] | None = None,
    prepare: Callable[[FluxTest], object] | None = None,
    effects: Any = None,
    resolve: Resolve | None = None,
    schedule: str | None = None,
    id: str = "crash-test",
    **options: Any,
) -> CrashReport:
    """Run `workflow` undisturbed, then once for everything that can go wrong at each of its storage calls.

    The invocation dies before the call, or after it; a second one executes the same at that moment; the lease ends,
    another invocation takes over, and the first goes on all the same. Each run must end with the status, data,
    outputs and effects of the undisturbed one: `AssertionError` tells the first that does not, with its story and
    the `schedule` that repeats just that run.

    `signals`: names, or names with payloads, each sent when it is awaited. `drive(flux, run)`: called after the
    execute instead, for workflows that need more than time and signals; what it sends is sent again until it is
    acknowledged. `prepare(flux)`: called before each run, to put stubs in place and reset what handlers count in.
    `effects`: a dict, list, set or Counter in which handlers note what the outside has seen, cleared before each
    run; or a function that tells it. `resolve(run, step)`: what the operator does when a commit's outcome is unknown
    (`run.complete_step(step, ...)`, `skip_step`, `retry_step`); without it such runs are not compared, but counted in
    `report.stuck`. `options` are those of `FluxTest`.
    """
    __tracebackhide__ = True
    if "storage" in options:
        message = "crash_at_every_write runs on memory, a fresh one each time; leave storage= out"
        raise DefinitionError(message)
    trial = _Trial(workflow.build(), input, id, signals, drive, prepare, effects, resolve, options)
    flux, end = trial.undisturbed()
    report = CrashReport(trial.workflow.name, end, _in_words(flux, id))
    plans = [plan for call in flux.calls for plan in Schedule.at(call)]
    for plan in plans if schedule is None else [Schedule.parse(schedule)]:
        trial.disturbed(plan, report)
    return report


class _Trial:
    """One call of `crash_at_every_write`."""

    def __init__(
        self,
        workflow: WorkflowDefinition,
        input_: object,
        id_: str,
        signals: Sequence[str | tuple[str, object]],
        drive: Callable[[FluxTest, Run], object] | None,
        prepare: Callable[[FluxTest], object] | None,
        effects: Any,
        resolve: Resolve | None,
        options: dict[str, Any],
    ) -> None:
        self.workflow = workflow
        self._input = input_
        self._id = id_
        self._signals = [(one, None) if isinstance(one, str) else one for one in signals]
        self._drive = drive
        self._prepare = prepare
        self._effects = effects
        self._resolve = resolve
        self._options = options

    def undisturbed(self) -> tuple[Disturbed, End]:
        """The run that all others are compared with; `AssertionError` if it does not end twice alike."""
        __tracebackhide__ = True
        first, again = self._begin(None), self._begin(None)
        end, other = self._play(first), self._play(again)
        if other != end:
            message = (
                f"{self._name} cannot compare anything: two undisturbed runs do not end alike. Take what differs out "
                f"of data and outputs, stub it, or reset it in prepare=.\n{_differences(other, end, 'the first run')}"
            )
            raise AssertionError(message)
        return first, end

    def disturbed(self, plan: Schedule, report: CrashReport) -> None:
        """One more run; `AssertionError` if it ends otherwise than the undisturbed one."""
        __tracebackhide__ = True
        flux = self._begin(plan)
        report.runs += 1
        wrong, cause = "", None
        try:
            wrong = _differences(self._play(flux), report.end, "undisturbed")
        except NeedsOperator as stuck:
            report.stuck[str(plan)] = stuck.step
        except Exception as error:  # noqa: BLE001 -- whatever a disturbed run raises is a difference
            wrong, cause = f"  it raised {type(error).__name__}: {str(error).partition(chr(10))[0]}", error
        if not flux.fired and not wrong:
            wrong = f"  it made {len(flux.calls)} storage calls only"
        report._last = partial(self._story, flux)  # noqa: SLF001 -- told only if somebody asks
        if wrong:
            call = report.calls[plan.call - 1] if plan.call <= len(report.calls) else "which is never made undisturbed"
            message = (
                f"{self._name}: a disturbed run differs (run {report.runs}).\n"
                f"  schedule: {KINDS[plan.kind]}; call {plan.call} is {call}\n"
                f"{wrong}\n"
                f'  to repeat just this run: crash_at_every_write(..., schedule="{plan}")\n\n'
                f"{report.story}"
            )
            raise AssertionError(message) from cause

    @property
    def _name(self) -> str:
        return f"crash_at_every_write({self.workflow.name})"

    def _begin(self, plan: Schedule | None) -> Disturbed:
        return Disturbed(self.workflow, plan, self._resolve, **self._options)

    def _play(self, flux: Disturbed) -> End:
        if hasattr(self._effects, "clear"):
            self._effects.clear()
        if self._prepare is not None:
            self._prepare(flux)
        run = flux.execute(self.workflow, self._input, self._id)
        if self._drive is None:
            _send_when_awaited(flux, run, self._signals)
        else:
            self._drive(flux, run)
        result = run.result
        return End(
            result.status,
            result.data,
            [(step.path, step.status, step.output) for step in result.history],
            None if result.error is None else (result.error.type, result.error.step),
            self._effects() if callable(self._effects) else deepcopy(self._effects),
        )

    def _story(self, flux: Disturbed) -> str:
        ref = InstanceRef(flux.tenant, self.workflow.name, self._id)
        there = flux.storage.inner.tail(ref) is not None
        return flux.story(Run(flux, *ref[1:])) if there else "(the instance was never started)"


def _send_when_awaited(flux: FluxTest, run: Run, signals: Sequence[tuple[str, object]]) -> None:
    """Let time pass, and send each signal when it is waited for, or when nothing else moves the instance."""
    left = list(signals)
    while True:
        if left and (left[0][0] in run.waiting_for or flux.storage.due(END_OF_TIME, 1) == []):
            run.signal(*left.pop(0))
        elif flux.advance_to_next() is None:
            return


def _differences(end: End, wanted: End, than: str) -> str:
    """A line for each part in which a run differs."""
    lines = []
    for name, value, other in zip(End._fields, end, wanted, strict=True):
        if value == other:
            continue
        if name == "steps":
            changed = [(one, two) for one, two in zip(value, other, strict=True) if one != two]
            lines += [f"  step {one[0]!r}: {one[1]}, output {shown(one[2])}; {than}: {two[1]}, output {shown(two[2])}"
                      for one, two in changed]  # fmt: skip
        else:
            lines.append(f"  {name}: {shown(value, 200)}; {than}: {shown(other, 200)}")
    return "\n".join(lines)


_WORDS = {
    r.START: "the start",
    r.CLAIM: "a claim",
    r.STEP: "the outcome of step {p!r}",
    r.SKIPPED: "step {p!r} skipped",
    r.DECIDE: "the decision of {p!r}",
    r.INTENT: "the intent of step {p!r}",
    r.COMP: "step {p!r} undone",
    r.RETRY_WAIT: "step {p!r} to be tried again",
    r.RECV: "the signal of step {p!r}",
    r.TIMEOUT: "the timeout of step {p!r}",
    r.SUSP: "going to rest",
    r.END: "the end",
    r.ADOPT: "a changed definition",
    r.CANCELREQ: "the request to cancel",
    r.PAUSE: "the request to pause",
    r.UNPAUSE: "the end of the pause",
    r.RETRY: "the request to retry step {p!r}",
    r.RESOLVE: "step {p!r} by hand",
}


def _in_words(flux: Disturbed, id_: str) -> list[str]:
    """The calls of a run; of those that write to the log, what they write."""
    (ref,) = (ref for ref in flux.storage.refs if ref.id == id_)
    log = load_log(flux.storage.inner, ref)
    return [_call(call, log) for call in flux.calls]


def _call(call: Call, log: Sequence[Record]) -> str:
    if call.method != "append" or call.seq is None:
        return call.method
    record = log[call.seq]
    return f"append: {_WORDS.get(record.type, record.type).format_map({'p': record.body.get('p')})}"
