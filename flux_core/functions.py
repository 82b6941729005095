"""Finding a step by its handler: which steps a function belongs to, as seen from one of them. It calls no function."""

from __future__ import annotations

from flux_core.errors import DefinitionError
from flux_core.paths import declared, lane_of, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Functions:
    """The handlers of one workflow."""

    __slots__ = ("_names", "_workflow")

    def __init__(self, workflow: str, handlers: Iterable[tuple[str, object]]) -> None:
        """`handlers` are the declared paths (`poll.fetch`) with their functions, in the order of the definition."""
        self._workflow = workflow
        self._names: dict[object, dict[str, list[str]]] = {}
        """Names by function and by the declared lane they are in."""
        for path, function in handlers:
            lane = lane_of(path)
            name = path[len(lane) + 1 :] if lane else path
            self._names.setdefault(_key(function), {}).setdefault(lane, []).append(name)

    def paths(self, function: object, lane: str) -> Iterator[str]:
        """The paths of the steps it is the handler of, as seen from a lane: in its own body, then in those around it.

        `DefinitionError` where two of one body have it.
        """
        lanes = self._names.get(_key(function))
        while lanes is not None:
            names = lanes.get(declared(lane), ())
            if len(names) > 1:
                there = ", ".join(names)
                message = (
                    f"workflow {self._workflow!r}: {name_of(function)} is the handler of several steps ({there}); "
                    f"name the one whose output you mean, for example {names[0]!r}"
                )
                raise DefinitionError(message)
            for name in names:
                yield f"{lane}.{name}" if lane else name
            if not lane:
                return
            lane = lane_of(owner_of(lane))

    def of(self, function: object) -> list[str]:
        """The declared paths of all steps that have it."""
        lanes = self._names.get(_key(function), {})
        return [f"{lane}.{name}" if lane else name for lane, names in lanes.items() for name in names]


def name_of(function: object) -> str:
    """How a message names a function."""
    name: str = getattr(function, "__name__", None) or repr(function)
    return name


def _key(function: object) -> object:
    """Bound methods are made anew at each look, and are equal; what cannot be hashed is known by its identity."""
    try:
        hash(function)
    except TypeError:
        return ("identity", id(function))
    return function
