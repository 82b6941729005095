"""The small settings that are explored to the end, each named by what it asks."""

from __future__ import annotations

from typing import Final

from tests.simulation.world import Setting, Step

EXECUTE: Final = ("execute",)
RECOVER: Final = ("recover",)
CANCEL: Final = ("cancel",)
PAUSE: Final = ("pause",)
UNPAUSE: Final = ("unpause",)
SIGNAL: Final = ("signal", "s")
OTHER_SIGNAL: Final = ("signal", "t")


def commit(name: str, policy: str = "quarantine", undo: str | None = None, retries: int = 1) -> Step:
    """A commit with its `on_unknown` and what its compensation does."""
    return Step(name, "commit", policy, undo, retries=retries)


def wait_for_go(name: str, timeout: float | None = None) -> Step:
    """A step that waits for the signal `go`."""
    return Step(name, "wait", timeout=timeout)


A, B, C = Step("a"), Step("b"), Step("c")

SETTINGS: Final[dict[str, Setting]] = {
    # --- execute / execute
    "three executes of one id": Setting((A, commit("b")), (EXECUTE, EXECUTE, EXECUTE)),
    "two executes of one id, and two deaths": Setting((A, commit("b")), (EXECUTE, EXECUTE), kill=2),
    # --- the zombie: a lease ends while its owner runs on
    "a lease is stolen while a step runs": Setting((A, B), (EXECUTE, RECOVER), time=2),
    "a lease is stolen while a commit runs that quarantines": Setting((A, commit("b")), (EXECUTE, RECOVER), time=1),
    "a lease is stolen while a commit runs that verifies": Setting(
        (A, commit("b", "verify")), (EXECUTE, RECOVER), time=1
    ),
    "a lease is stolen while a commit runs that retries": Setting(
        (commit("a", "retry"), B), (EXECUTE, RECOVER), time=2
    ),
    "two sweepers and a zombie": Setting((A,), (EXECUTE, RECOVER, RECOVER), time=1),
    "a zombie and a death": Setting((commit("a", "verify"), B), (EXECUTE, RECOVER), time=1, kill=1),
    "a zombie and a death while a saga is undone": Setting(
        (commit("a", "verify", "verify"), B), (EXECUTE, RECOVER), (("fail", "b"),), time=1, kill=1
    ),
    # --- signals
    "a signal before, while and after the instance starts": Setting((wait_for_go("a"), B), (EXECUTE, SIGNAL), kill=1),
    "one signal sent twice": Setting((wait_for_go("a"),), (EXECUTE, SIGNAL, SIGNAL)),
    "two signals for two waits": Setting(
        (wait_for_go("a"), wait_for_go("b")), (SIGNAL, OTHER_SIGNAL), (EXECUTE,), kill=1
    ),
    "a running instance, a signal and its wait's timeout": Setting((wait_for_go("a", 50),), (EXECUTE, SIGNAL), time=2),
    "a signal, its wait's timeout and a death": Setting(
        (wait_for_go("a", 50), B), (SIGNAL, RECOVER), (EXECUTE,), time=1, kill=1
    ),
    "a signal to an instance that is opened again": Setting(
        (wait_for_go("a"),), (OTHER_SIGNAL, ("retry", "a", "force")), (EXECUTE, SIGNAL), kill=1
    ),
    # --- answers that are lost
    "the answer of any write is lost": Setting((A, commit("b"), wait_for_go("c")), (EXECUTE, SIGNAL), lost=1),
    "lost answers, a death and a second execute": Setting((commit("a"),), (EXECUTE, EXECUTE), lost=2, kill=1),
    "two calls that the store does not answer": Setting((A, commit("b")), (EXECUTE, EXECUTE), drop=2),
    "a saga with a lost answer, a death and an unknown outcome": Setting(
        (commit("a", undo="verify"), B), (EXECUTE,), fatal=1, lost=1, kill=1, unknown=1
    ),
    # --- cancel
    "cancel and a running saga": Setting(
        (Step("a", undo="retry"), commit("b", undo="retry")), (EXECUTE, CANCEL), kill=1
    ),
    "cancel and cancel": Setting((commit("a", undo="retry"),), (EXECUTE, CANCEL, CANCEL)),
    "cancel while the lease is about to be renewed": Setting((A, commit("b")), (EXECUTE, CANCEL), time=1, near=True),
    "cancel and a zombie": Setting((commit("a", "verify", "retry"),), (EXECUTE, CANCEL), time=1),
    "cancel in a short back-off": Setting(
        (commit("a", "retry", "retry"),), (EXECUTE, CANCEL), unknown=1, fail=1, inline=2.0
    ),
    "cancel in a durable back-off": Setting(
        (commit("a", "retry", "retry"),), (EXECUTE, CANCEL), unknown=1, inline=0.0, time=1
    ),
    "cancel and an instance about to be suspended": Setting(
        (commit("a", undo="retry"), wait_for_go("b")), (EXECUTE, CANCEL), kill=1
    ),
    "cancel and a signal": Setting((commit("a", undo="retry"), wait_for_go("b")), (CANCEL, SIGNAL), (EXECUTE,), kill=1),
    # --- pause
    "pause and a running saga": Setting(
        (Step("a", undo="retry"), commit("b", undo="retry")), (EXECUTE, PAUSE), fatal=1, kill=1
    ),
    "pause, unpause and a running instance": Setting((A, commit("b")), (EXECUTE, PAUSE, UNPAUSE)),
    "pause and a signal": Setting((wait_for_go("a"), B), (PAUSE, SIGNAL), (EXECUTE,), kill=1),
    "pause, a signal and its wait's timeout": Setting((wait_for_go("a", 50),), (PAUSE, SIGNAL), (EXECUTE,), time=1),
    "unpause and a signal": Setting((wait_for_go("a"), B), (UNPAUSE, SIGNAL), (EXECUTE, PAUSE), kill=1),
    "pause and cancel": Setting((commit("a", undo="retry"), wait_for_go("b")), (PAUSE, CANCEL), (EXECUTE,), kill=1),
    "pause in a short back-off": Setting((commit("a", "retry"),), (EXECUTE, PAUSE), unknown=1, fail=1, inline=2.0),
    "pause and a zombie": Setting((commit("a", "verify"), B), (EXECUTE, PAUSE), time=1),
    "pause and the answer of any write is lost": Setting((A, wait_for_go("b")), (EXECUTE, PAUSE), lost=1),
    # --- the workflow's time limit
    "a running instance whose time runs out": Setting(
        (Step("a", undo="retry"), commit("b", undo="retry")), (EXECUTE, RECOVER), time=2, limit=60, kill=1
    ),
    "a signal and the workflow's time limit": Setting(
        (commit("a", undo="retry"), wait_for_go("b")), (SIGNAL, RECOVER), (EXECUTE,), time=1, limit=60, kill=1
    ),
    # --- operators
    "retry and retry": Setting(
        (commit("a", undo="retry"), B), (("retry", "b"), ("retry", "b")), (("fail", "b"), EXECUTE), kill=1
    ),
    "resume and resume": Setting((A, B), (("resume",), ("resume",)), (("fail", "b"), EXECUTE), kill=1),
    "retry and a signal": Setting((wait_for_go("a"),), (("retry", "a"), SIGNAL), (EXECUTE,), kill=1),
    "completing a wait by hand and its signal": Setting(
        (wait_for_go("a"), B), (("complete", "a"), SIGNAL), (EXECUTE,), kill=1
    ),
    "retry of a step before a commit that is kept": Setting(
        (A, commit("b", undo="retry"), wait_for_go("c")), (("retry", "a"), CANCEL), (EXECUTE,), fatal=1
    ),
    "retry and again retry before a commit that is kept": Setting(
        (A, wait_for_go("b"), commit("c")), (("retry", "a", "force"), ("retry", "a")), (EXECUTE, SIGNAL), kill=1
    ),
    "skipping by hand a commit that is kept": Setting(
        (A, wait_for_go("b"), commit("c", undo="retry")),
        (("skip", "c"), OTHER_SIGNAL),
        (EXECUTE, SIGNAL, ("retry", "a", "force")),
    ),
    "retry, cancel and retry before a commit that is kept": Setting(
        (A, wait_for_go("b"), commit("c")),
        (CANCEL, ("retry", "a", "force")),
        (EXECUTE, SIGNAL, ("retry", "b", "force"), ("retry", "a", "force")),
        kill=1,
    ),
    "a step skipped before its turn, and retried after it": Setting(
        (wait_for_go("a"), B, C), (("retry", "c", "force"), CANCEL), (EXECUTE, ("skip", "c"), SIGNAL)
    ),
    "retry of a step before a commit completed by hand": Setting(
        (wait_for_go("a"), commit("b")), (("complete", "b"), ("retry", "a")), (EXECUTE,), kill=1
    ),
    "whoever runs a step dies": Setting((A, B), (EXECUTE, RECOVER), time=2, poison="a"),
    # --- deadlines and snapshots
    "an attempt fails shortly before the deadline": Setting(
        (commit("a"), B), (EXECUTE, RECOVER), deadline=15.0, work=3.0, fail=1
    ),
    "snapshots at every opportunity": Setting((A, wait_for_go("b")), (EXECUTE, SIGNAL), snapshots=True),
}
