"""`make demo`: 240 orders, a worker killed in the middle, and a proof that no money moved twice.

It narrates. The orders run in worker processes (`worker`), the judgement is in `proof`; here is only the show.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.text import Text

from examples.order_fulfilment.app import HOME, HOME_VARIABLE, LEASE
from examples.order_fulfilment.autopsy import in_flight, settled
from examples.order_fulfilment.journal import DUPLICATE, read_journal
from examples.order_fulfilment.proof import prove
from examples.order_fulfilment.screen import Show, table
from examples.order_fulfilment.worker import Worker, WorkerFailed
from flux_cli.apps import load_engine
from flux_cli.exits import UNUSABLE, CommandFailed
from flux_cli.styles import STYLES
from flux_core import UnknownInstance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.order_fulfilment.autopsy import Attempt
    from examples.order_fulfilment.proof import Choice
    from flux_core import FluxEngine, FluxResult, InstanceSummary

FILE: Final = Path(__file__).with_name("orders.jsonl")
APP: Final = "examples.order_fulfilment.app:engine"
CARELESS: Final = "examples.order_fulfilment.careless:engine"
WORKFLOW: Final = "order-fulfilment"
_LONGEST_PAUSE: Final = 0.012
"""Seconds between the charge and the kill: less than an answer takes."""
_MOST_OFFENDERS: Final = 12
_LEFT_BEHIND: Final = ("orders.db*", "journal.jsonl", "orders.jsonl", "worker-*.log")
"""What an earlier run has left in the folder; nothing else in it is touched."""
_LEFT_WAITING: Final = 2
_CHOICES: Final[tuple[Choice, ...]] = ("approve", "approve", "refuse", "approve", "cancel")
_UNDONE: Final = frozenset({"failed", "rolled_back"})
TURNED_AWAY: Final = "turned away"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if the proof holds, 1 if it does not, 3 if a worker could not do its work."""
    options = _options(arguments)
    show = Show(Console(highlight=False))
    try:
        return Demo(options, show).run()
    except (WorkerFailed, CommandFailed) as error:
        show.say(f"The demo cannot go on: {error}", "red")
        return 3
    except KeyboardInterrupt:
        show.say("Interrupted. `make demo` starts afresh.")
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.order_fulfilment.demo", description=__doc__)
    parser.add_argument("--orders", type=int, metavar="N", help="only the first N orders of the file")
    parser.add_argument(
        "--kill-after", type=_fraction, action="append", metavar="FRACTION",
        help="kill the worker once this part of the orders is done; may be given several times (default: 0.45)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="varies the moment of the kill and people's decisions")
    parser.add_argument("--home", type=Path, default=HOME, help="the folder of the store and the journal")
    parser.add_argument(
        "--app", default=APP, help="another shop: examples.order_fulfilment.careless:engine fails the proof"
    )
    options = parser.parse_args(arguments)
    options.kill_after = [0.45] if options.kill_after is None else options.kill_after
    return options


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"a fraction is at least 0 and less than 1; got {text}")
    return value


def _alone_in(home: Path) -> TextIO:
    """Held until this process ends, however it ends: two demos in one folder would spoil each other's proof."""
    lock = (home / "demo.lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CommandFailed(
            f"another demo is running in {_short(str(home))}; wait for it, or use another folder: "
            f'make demo ARGS="--home OTHER"',
            UNUSABLE,
        ) from None
    return lock


class Demo:
    """One run of the demo."""

    def __init__(self, options: argparse.Namespace, show: Show) -> None:
        self._show = show
        self._app: str = options.app
        self._kills: list[float] = options.kill_after
        self._random = Random(options.seed)
        self._home: Path = options.home.resolve()
        self._journal = self._home / "journal.jsonl"
        self._home.mkdir(parents=True, exist_ok=True)
        self._lock = _alone_in(self._home)
        for pattern in _LEFT_BEHIND:
            for path in self._home.glob(pattern):
                path.unlink()
        self._file = FILE
        lines = FILE.read_text(encoding="utf-8").splitlines(keepends=True)
        if options.orders is not None:
            lines = lines[: max(options.orders, 1)]
            self._file = self._home / "orders.jsonl"
            self._file.write_text("".join(lines), encoding="utf-8")
        self._orders: dict[str, object] = {raw["order_id"]: raw for raw in map(json.loads, lines)}
        os.environ[HOME_VARIABLE] = str(self._home)
        self._engine: FluxEngine = load_engine(self._app)
        self._choices: dict[str, Choice] = {}
        self._deaths: list[tuple[list[Attempt], int]] = []
        """Each kill: what was in flight, and how long the journal was."""
        self._results: dict[str, FluxResult | None] = {}

    def run(self) -> int:
        """The story from beginning to end."""
        for number, fraction in enumerate(self._kills, 1):
            self._run_and_kill(number, fraction)
        self._run_to_the_end()
        self._tell_settled()
        self._decide()
        proved = self._prove()
        self._sum_up(proved=proved)
        self._next()
        return 0 if proved else 1

    # --- workers ------------------------------------------------------------------------------------------------

    def _run_and_kill(self, number: int, fraction: float) -> None:
        show, total = self._show, len(self._orders)
        show.chapter(f"A worker takes {total} orders" if number == 1 else f"Worker {number} goes on with the same file")
        worker = Worker(self._app, self._file, self._home, number)
        try:
            if number == 1:
                show.say(f"Pid {worker.pid}, eight orders at a time; each step is on disk before the next one starts.")
            show.command(_command(worker))
            with show.bar(total, lambda: worker.statuses) as bar:
                worker.watch(bar.tick, until=lambda: worker.settled >= fraction * total)
                killed = worker.kill(self._journal, self._random.uniform(0, _LONGEST_PAUSE))
                bar.tick()
        finally:
            worker.stop()
        if not killed:
            show.say(f"Worker {worker.pid} was done before it could be killed.", "yellow")
            return
        show.chapter("SIGKILL")
        journal = read_journal(self._journal)
        attempts = in_flight(self._engine, WORKFLOW, journal)
        happened = sum(attempt.happened for attempt in attempts)
        paid = any(attempt.happened and attempt.effect == "charge" for attempt in attempts)
        moment = " right after a charge, before the answer was back" if paid else ""
        show.say(
            f"The demo has killed its own worker {worker.pid}{moment}: no handler ran, nothing was flushed. "
            f"{len(attempts)} attempts were in flight; {happened} of them had taken effect outside, and no record of "
            f"the workflow says so."
        )
        self._deaths.append((attempts, len(journal)))

    def _run_to_the_end(self) -> None:
        show, total, number = self._show, len(self._orders), len(self._kills) + 1
        show.chapter("Another worker, the same command" if self._deaths else f"A worker takes {total} orders")
        worker = Worker(self._app, self._file, self._home, number)
        try:
            if self._deaths:
                show.say(
                    f"Pid {worker.pid}. The same ids, so what is done stays done. What the dead worker left is taken "
                    f"over when its lease of {LEASE:g} s ends."
                )
            show.command(_command(worker))
            with show.bar(total, lambda: worker.statuses) as bar:
                worker.watch(bar.tick, until=lambda: False)
        finally:
            worker.stop()
        show.say(f"engine.recover() finds {len(self._engine.recover()) or 'nothing'} left over.")

    def _tell_settled(self) -> None:
        journal = read_journal(self._journal)
        for number, (attempts, length) in enumerate(self._deaths, 1):
            if not attempts:
                continue
            which = f"kill {number}" if len(self._deaths) > 1 else "the kill"
            rows = table(f"In flight at {which}", "what", "order", "had happened", "how it was settled")
            for attempt in attempts:
                happened = Text("yes", "yellow") if attempt.happened else "no"
                rows.add_row(attempt.effect, attempt.order, happened, settled(attempt, journal[length:]))
            self._show.console.print()
            self._show.table(rows)

    # --- people -----------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        waiting = sorted(item.id for item in self._all("suspended"))
        if not waiting:
            return
        self._show.chapter("People decide")
        decided = waiting[:-_LEFT_WAITING] if len(waiting) > 2 * _LEFT_WAITING else waiting
        for place, id_ in enumerate(decided):
            self._choices[id_] = _CHOICES[place] if place < len(_CHOICES) else self._random.choice(_CHOICES)
        told = Counter(self._choices.values())
        self._show.say(
            f"{len(waiting)} large orders are paid and wait for an approval, in no process at all. Now "
            f"{told['approve']} are approved, {told['refuse']} refused, {told['cancel']} cancelled by their customers; "
            f"{len(waiting) - len(decided)} go on waiting."
        )
        counts: Counter[str] = Counter()
        with self._show.bar(len(decided), lambda: counts) as bar, ThreadPoolExecutor(8) as pool:
            for result in pool.map(self._carry_out, decided):
                counts[result.status] += 1
                bar.tick()

    def _carry_out(self, id_: str) -> FluxResult:
        match self._choices[id_]:
            case "approve":
                return self._engine.signal(WORKFLOW, id_, "approval", {"approved": True, "by": "Dana"})
            case "refuse":
                return self._engine.signal(WORKFLOW, id_, "approval", {"approved": False, "by": "Dana"})
            case "cancel":
                return self._engine.cancel(WORKFLOW, id_, reason="the customer changed their mind")

    # --- the end ----------------------------------------------------------------------------------------------

    def _prove(self) -> bool:
        show = self._show
        show.chapter("Proof")
        show.say("From the journal that the payment provider, the warehouse and the carrier keep themselves:")
        self._results = {id_: self._get(id_) for id_ in self._orders}
        statuses = {id_: result.status if result else None for id_, result in self._results.items()}
        claims = prove(self._orders, statuses, self._choices, read_journal(self._journal))
        rows = table(None, "", "claim", "checked")
        for claim in claims:
            verdict = Text("FAILED", "bold red") if claim.offenders else Text("holds", "green")
            rows.add_row(verdict, claim.text, str(claim.checked))
        show.table(rows)
        for claim in claims:
            for offender in claim.offenders[:_MOST_OFFENDERS]:
                show.say(f"  {offender}", "red")
            if len(claim.offenders) > _MOST_OFFENDERS:
                show.say(f"  and {len(claim.offenders) - _MOST_OFFENDERS} more: {claim.text}", "red")
        return all(not claim.offenders for claim in claims)

    def _sum_up(self, *, proved: bool) -> None:
        self._show.chapter("In the end")
        journal = read_journal(self._journal)
        effects = Counter((entry.order, entry.effect) for entry in journal)
        columns = ("charge", "refund", "ship", "notify", DUPLICATE)
        rows = table(None, "status", "orders", "retries", "charges", "refunds", "parcels", "mails", "repeats")
        by_status: dict[str, list[str]] = {}
        for id_, result in self._results.items():
            by_status.setdefault(result.status if result else TURNED_AWAY, []).append(id_)
        for status, ids in sorted(by_status.items(), key=lambda item: -len(item[1])):
            rows.add_row(
                Text(status, STYLES.get(status, "")),
                str(len(ids)),
                str(sum(_retries(self._results[id_]) for id_ in ids)),
                *(str(sum(effects[id_, effect] for id_ in ids)) for effect in columns),
            )
        total = Counter(entry.effect for entry in journal)
        rows.add_section()
        rows.add_row(
            "all",
            str(len(self._orders)),
            str(sum(map(_retries, self._results.values()))),
            *(str(total[effect]) for effect in columns),
        )
        self._show.table(rows)
        if proved:
            self._show.say("Nothing was charged twice and nothing was lost.", "bold green")
        else:
            self._show.say("The proof failed: the orders in red contradict it.", "bold red")
        self._show.say("repeats: requests sent again after a crash; the other side knew them by their key.", "dim")

    def _next(self) -> None:
        show = self._show
        show.chapter("Try next")
        prefix = "" if self._home == HOME else f"{HOME_VARIABLE}={shlex.quote(str(self._home))} "
        flux = prefix + _runnable("flux")
        named = f"--app {self._app}"
        waiting = next((id_ for id_, result in self._results.items() if result and result.status == "suspended"), None)
        undone = next((id_ for id_, result in self._results.items() if result and result.status in _UNDONE), None)
        show.say("The same file again: everything is done already, and nothing happens twice")
        show.command(f"{flux} run {named} --id-field order_id {_short(str(self._file))}")
        show.say("List what has failed or was undone; look at one order, and at what can be done about it")
        show.command(f"{flux} list {named} --status failed --status rolled_back")
        show.command(f"{flux} show {named} {undone or waiting or next(iter(self._orders))}")
        if waiting is not None:
            payload = shlex.quote(json.dumps({"approved": True, "by": "you"}))
            show.say(f"Hold {waiting}, let it go again, and approve it yourself")
            show.command(f"{flux} pause {named} {waiting} --why 'the customer called'")
            show.command(f"{flux} unpause {named} {waiting}")
            show.command(f"{flux} signal {named} {waiting} approval --payload {payload}")
        show.say("Two kills at other moments; a careless shop, which the proof convicts; the tests")
        show.command('make demo ARGS="--kill-after 0.2 --kill-after 0.7 --seed 7"')
        show.command(f'make demo ARGS="--app {CARELESS}"')
        show.command("make test")

    # --- looking at instances ---------------------------------------------------------------------------------

    def _all(self, status: str) -> Iterator[InstanceSummary]:
        cursor = None
        while True:
            page = self._engine.list(WORKFLOW, status, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def _get(self, id_: str) -> FluxResult | None:
        try:
            return self._engine.get(WORKFLOW, id_)
        except UnknownInstance:
            return None


def _retries(result: FluxResult | None) -> int:
    return 0 if result is None else sum(step.retries for step in result.history)


def _command(worker: Worker) -> str:
    return "flux " + shlex.join(_short(word) for word in worker.arguments)


def _short(word: str) -> str:
    """A path as one would type it here."""
    here = f"{Path.cwd()}{os.sep}"
    return word.removeprefix(here)


def _runnable(name: str) -> str:
    """`flux` or `python` of this environment, as one would type it here."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return _short(str(beside))
    return sys.executable if name == "python" else f"{_runnable('python')} -m flux_cli"


if __name__ == "__main__":
    sys.exit(main())
