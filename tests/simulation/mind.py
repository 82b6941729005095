"""What an invocation that stands still has in mind: a digest of the variables of every function that it is in.

Two invocations that stand at the same place with equal minds do the same from there on, whatever they were told on
their way; so a search may take them for the same. It must not change what it looks at, and what it does not know it
refuses: nothing is left out unsaid.

What is on the stack of an expression, and in no variable, is not seen. The engine stops only in calls to the store and
to handlers; what such an expression still needs then is in a variable, too, or follows from one.
"""

from __future__ import annotations

from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from flux_core import FluxEngine, WorkflowBuilder, WorkflowDefinition
from flux_core.context import Context
from flux_core.control import Control
from flux_core.episode import Episode
from flux_core.family import Family
from flux_core.load import Loaded
from flux_core.logger import GuardedLogger
from flux_core.loop import EngineLoop, _Run
from flux_core.state import WorkflowState
from flux_core.step_runner import Attempts
from flux_core.trace import Telemetry
from flux_core.workflow import StepDefinition
from tests.simulation.liveness import needed_at

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_PLAIN: Final = (str, int, float, bytes, type(None), type, CodeType, ModuleType)


def mind_of(frame: FrameType | None, constant: tuple[type, ...]) -> int:
    """The digest of `frame` and all that called it; things of the classes `constant` are the same in every run."""
    look = _Look(constant)
    found = []
    while frame is not None:
        code, values = frame.f_code, frame.f_locals
        needed = needed_at(code, frame.f_lasti)
        found.append((code, frame.f_lasti, tuple([(name, look.at(values[name])) for name in needed if name in values])))
        frame = frame.f_back
    return hash(tuple(found))


class _Look:
    """One look at a mind: nothing is looked at twice."""

    def __init__(self, constant: tuple[type, ...]) -> None:
        self._constant = constant
        self._known: dict[int, tuple[object, Hashable]] = {}
        """By identity, the thing itself, so that it stays, and its digest."""

    def at(self, value: Any) -> Any:
        """What stands for `value` in a digest; hashable."""
        kind = type(value)
        if kind in _PLAIN or kind is bool:
            return value
        if kind in _CONSTANT or issubclass(kind, self._constant):
            return kind
        known = self._known.get(id(value))
        if known is None:
            self._known[id(value)] = value, "around this"
            known = self._known[id(value)] = value, hash((kind, self._of(kind, value)))
        return known[1]

    def _of(self, kind: type, value: Any) -> Hashable:
        at = self.at
        look = _LOOKS.get(kind)
        if look is not None:
            return tuple([at(one) for one in look(value)])
        if issubclass(kind, (tuple, list)):
            return tuple([at(one) for one in value])
        if issubclass(kind, dict):
            return tuple([(at(key), at(one)) for key, one in value.items()])
        if issubclass(kind, (set, frozenset)):
            return frozenset([at(one) for one in value])
        if kind is FunctionType:
            return value.__code__, tuple([at(cell.cell_contents) for cell in value.__closure__ or ()])
        if kind is MethodType:
            return value.__func__.__code__, at(value.__self__)
        if kind is BuiltinFunctionType:
            return value.__name__, at(value.__self__)
        return tuple([(name, at(one)) for name, one in _parts(value)])


def _parts(value: Any) -> list[tuple[str, Any]]:
    names = [name for kind in type(value).__mro__ for name in kind.__dict__.get("__slots__", ())]
    found = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    found += vars(value).items() if hasattr(value, "__dict__") else ()
    if not found and not names and not isinstance(value, BaseException) and type(value).__module__ == "builtins":
        message = f"{value!r} is in the mind of an invocation, and nobody has said what it means there"
        raise TypeError(message)
    return found


_CONSTANT: Final = frozenset({
    Attempts, Control, EngineLoop, Family, FluxEngine, GuardedLogger, Telemetry, WorkflowBuilder, WorkflowDefinition,
})  # fmt: skip
"""They hold nothing of a run that is not in the state of its instance."""


def _state(state: WorkflowState) -> tuple[object, ...]:
    """It is the fold of so many records of the log, or else it was made by hand."""
    return state.tenant, state.name, state.id, state.seq, state.status, state.owned


def _episode(episode: Episode) -> tuple[object, ...]:
    """Nonces differ, and mean the same."""
    return episode.ref, episode.state, episode.owns, episode._extended


_RUN: Final = (
    "_begun",
    "_cancelled",
    "_end",
    "_first",
    "_flight",
    "_held",
    "_lease",
    "_looked",
    "_quick",
    "_slow",
    "_undoing",
)

_LOOKS: Final[dict[type, Callable[[Any], tuple[object, ...]]]] = {
    WorkflowState: _state,
    Episode: _episode,
    Loaded: lambda loaded: (loaded.state,),
    _Run: lambda run: (run.episode, run.errands, *(getattr(run, name) for name in _RUN)),
    StepDefinition: lambda step: (step.path,),
    Context: lambda ctx: (ctx.path, ctx.attempt),
}
