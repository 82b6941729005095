"""Which instance a command means: the words behind it, and how to say the same again. It must not change anything."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from flux_cli.apps import VARIABLE, opened, workflow_name
from flux_cli.exits import USAGE, CommandFailed
from flux_core import InstanceRef
from flux_core.names import check_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core import FluxEngine


class Target:
    """One instance of one app, and the words that followed its id."""

    __slots__ = ("app", "engine", "ref", "rest")

    def __init__(self, engine: FluxEngine, app: str, ref: InstanceRef, rest: Sequence[str] = ()) -> None:
        self.engine = engine
        self.app = app
        self.ref = ref
        self.rest = list(rest)
        """The step or the signal, where the command takes one."""

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.ref.workflow

    @property
    def id(self) -> str:
        """The instance's id."""
        return self.ref.id

    def command(self, verb: str, *rest: str, options: Sequence[str] = ()) -> str:
        """`flux VERB` for this instance, ready to be pasted into a shell."""
        workflow = [] if len(self.engine.workflows) == 1 else [self.workflow]
        return command(self.app, verb, [*workflow, self.id, *rest], options)


def command(app: str, verb: str, words: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """`flux VERB ...` as one types it. The app is left out where the environment names it already."""
    named = [] if os.environ.get(VARIABLE) == app else ["--app", app]
    dashes = ["--"] if any(word.startswith("-") for word in words) else []
    return shlex.join(["flux", verb, *named, *options, *dashes, *words])


def targeted(app: str | None, words: Sequence[str] | None, verb: str, *names: str) -> Target:
    """What `[WORKFLOW]` and the words called `names`, the first of them the id, mean in the app.

    `CommandFailed` says what is missing, or which of several workflows has to be named.
    """
    given = list(words or ())
    usage = f"flux {verb} [WORKFLOW] {' '.join(names)}"
    if len(given) not in {len(names), len(names) + 1}:
        what = f"got {shlex.join(given)}" if given else f"{' and '.join(names)} {_is(names)} missing"
        raise CommandFailed(f"{what}; write {usage}", USAGE)
    engine, spec = opened(app)
    if len(given) > len(names):
        if engine.workflows and given[0] not in engine.workflows:
            known = ", ".join(sorted(engine.workflows))
            message = f"the engine of {spec!r} has no workflow {given[0]!r}; it has {known}; write {usage}"
            raise CommandFailed(message, USAGE)
        workflow = workflow_name(engine, given.pop(0), spec)
    else:
        workflow = _workflow_of(engine, spec, given[0], usage)
    id_ = check_key("id", given.pop(0))
    return Target(engine, spec, InstanceRef(engine.tenant, workflow, id_), given)


def _workflow_of(engine: FluxEngine, spec: str, id_: str, usage: str) -> str:
    """The only workflow, or the only one that has an instance of this id."""
    known = sorted(engine.workflows)
    check_key("id", id_)
    holders = [name for name in known if engine.storage.header(InstanceRef(engine.tenant, name, id_)) is not None]
    if len(holders) == 1:
        return holders[0]
    if id_ in known and not holders:
        raise CommandFailed(f"{id_!r} is a workflow, and no instance has that id; write {usage}", USAGE)
    if len(known) <= 1:
        return workflow_name(engine, None, spec)
    if holders:
        raise CommandFailed(
            f"the workflows {', '.join(holders)} each have an instance {id_!r}; say which: {usage}",
            USAGE,
        )
    raise CommandFailed(
        f"none of the workflows {', '.join(known)} has an instance {id_!r}; flux list shows those there are", USAGE
    )


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
