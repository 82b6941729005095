"""One order, `o-1`, over SQLite in the folder of a test, brought into whatever status the test is about."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from flux_core import InstanceRef

if TYPE_CHECKING:
    from typer.testing import Result

    from flux_core import FluxEngine
    from tests.cli.conftest import Flux

SOURCE: Final = """
import sys
from flux_core import FluxEngine, NonRetryable, RetryPolicy, Unknown, compensation, create_workflow, sleep, wait
from flux_core.testing import VirtualClock
from flux_local import SQLiteStorage

clock = VirtualClock()
healthy = False  # whether the troubled step works by now
ran = []

class Killed(BaseException):
    pass

def did(what):
    def handler(ctx):
        if what == "last" and "leave" in ctx.input:
            sys.exit(ctx.input["leave"])
        ran.append(what)
        ctx.data[what] = ctx.input["kind"]
        return what
    return handler

def gate(ctx):
    ran.append("gate")
    kind = ctx.input["kind"]
    if kind in ("suspended", "cancelled", "paused", "blocked"):
        return wait("go", timeout=7200)
    if kind == "sleeping":
        return sleep(ctx.input.get("seconds", 3600))
    if healthy or kind == "completed":
        return "gate"
    if kind == "running":
        raise Killed
    if kind == "stuck":
        raise Unknown("the gateway timed out")
    raise NonRetryable("no driver in town")

def undo(ctx):
    if ctx.input["kind"] == "rolling_back":
        raise OSError("not now")
    if ctx.input["kind"] == "half_undone":
        raise NonRetryable("the warehouse says no")
    ran.append("undo first")

patient = compensation(undo, retries=5, retry=RetryPolicy(60, maximum=60, jitter=False))

def workflow(kind, turned, more):
    w = create_workflow("order", version="7")
    def first():
        w.step("first", did("first"), compensate=None if kind == "failed" else patient)
    def second():
        (w.commit if kind == "stuck" else w.step)("gate", gate)
    for add in (second, first) if turned else (first, second):
        add()
    if more:
        w.step("more", did("more"))
    return w.step("last", did("last"))

def deploy(kind, turned=False, more=False):
    global engine
    store = SQLiteStorage("orders.db", synchronous="OFF")
    engine = FluxEngine(store, workflows=[workflow(kind, turned, more)], default_retries=0, clock=clock)

deploy("completed")
"""

STATUSES: Final = (
    "running",
    "suspended",
    "paused",
    "completed",
    "failed",
    "rolled_back",
    "rolling_back",
    "stuck",
    "blocked",
    "cancelled",
)
"""All that a store can hold."""


class Orders:
    """The app of one test, and the commands on it."""

    def __init__(self, flux: Flux) -> None:
        flux.write_app(SOURCE)
        self.flux = flux
        self.app = flux.app

    def __call__(self, verb: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """`flux VERB --app` of these orders, in this process."""
        return self.flux(verb, "--app", self.app, *arguments, stdin=stdin)

    def json(self, verb: str, *arguments: str) -> dict[str, Any]:
        """The object that the command prints with `--json`."""
        done = self(verb, "--json", *arguments)
        (line,) = done.stdout.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def module(self) -> Any:
        """The app, imported as the command line does it."""
        if self.flux.module not in sys.modules:
            sys.path.insert(0, str(self.flux.folder))
            __import__(self.flux.module)
        return sys.modules[self.flux.module]

    @property
    def engine(self) -> FluxEngine:
        """The engine of the app as it is deployed now."""
        found: FluxEngine = self.module.engine
        return found

    @property
    def ran(self) -> list[str]:
        """What the handlers noted."""
        found: list[str] = self.module.ran
        return found

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.module.clock.advance(seconds)

    def forget(self) -> None:
        """As in a new process: the app is imported again."""
        self.engine.storage.close()
        del sys.modules[self.flux.module]

    def execute(self, kind: str, id_: str = "o-1", **more: object) -> None:
        self.module.deploy(kind)
        try:
            self.engine.execute("order", {"kind": kind, **more}, id_)
        except self.module.Killed:
            assert kind == "running"

    def reach(self, status: str, id_: str = "o-1") -> None:
        """An order of this status, its trouble mended since."""
        self.module.healthy = False
        self.execute(status, id_)
        if status == "cancelled":
            self.engine.cancel("order", id_, "no longer wanted", who="ann")
        if status == "paused":
            self.engine.pause("order", id_, who="ann", why="strike")
        if status == "blocked":
            self.module.deploy(status, turned=True)
            self.engine.wake("order", id_)
        assert self.status(id_) == status
        self.module.healthy = True
        self.ran.clear()

    def status(self, id_: str = "o-1") -> str:
        return self.engine.get("order", id_).status

    def log(self, id_: str = "o-1") -> list[bytes]:
        return self.engine.storage.read(InstanceRef("default", "order", id_))


def refused(done: Result, exit_code: int, *said: str) -> None:
    """It ended with one sentence on standard error, and printed nothing else."""
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("flux: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr
