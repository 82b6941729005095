"""The functions that a case describes as data: handlers (`do`), conditions (`when`), compensators, validators.

They note their calls as the recorded cases do: `run:a#2` is the second run of step a, `when:a`, `compensate:a#1`,
`late:a#1` after a sleep that says `thenLog`, `ctx:{...}` for `recordCtx`. An unknown word raises `UnknownInCase`.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from flux_core import Context, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.conformance.groups import Place
    from tests.conformance.laboratory import Gate, Invocation, Log

    Handler = Callable[[Context], object]
    Steps = Generator[float, None, object]

UNTIL_CUT = 15.0
"""Seconds that a handler sleeps when its nominal time exceeds its nominal limit: until the engine cuts it."""
REAL_LIMIT_MS = 200.0
"""No step gets a tighter limit than this: a handler that stays within its nominal limit must never be cut."""


class UnknownInCase(Exception):
    """The case uses a word that this interpreter does not know; nothing can be said about it."""


class Raised(Exception):
    """What handlers raise; the message is the case's."""


def real_ms(ms: float) -> float:
    """As the cases were recorded: waits of 500 ms and more were divided by 100 while running."""
    return ms / 100 if ms >= 500 else ms


class Behaviours:
    """Makes functions out of data for one case, and counts their calls."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._runs: dict[str, int] = {}
        self._undos: dict[str, int] = {}
        self._members: dict[str, Place] = {}
        self.gate: Gate | None = None
        self.invocation: Callable[[], Invocation | None] = lambda: None

    def know(self, members: dict[str, Place]) -> None:
        """Be told which steps are members of groups, so that they are seen where the original sees them."""
        self._members |= members

    # --- what the engine gets -------------------------------------------------------------------------------

    def handler(self, step: str, do: list[dict[str, Any]], *, limit_ms: float | None, is_async: bool) -> Handler:
        known(do, _DO, f"step {step!r}: do")

        def body(ctx: Context) -> Steps:
            run = self._runs[step] = self._runs.get(step, 0) + 1
            self._log.handlers.append(f"run:{step}#{run}")
            yield 0.0
            outcome: object = None
            for behaviour in do:
                outcome = yield from self._act(ctx, step, run, behaviour, outcome)
            return outcome

        return self._function(body, limit_ms, is_async=is_async)

    def compensator(self, step: str, how: dict[str, Any]) -> Handler:
        known([how], _UNDO, f"step {step!r}: compensate")

        def body(ctx: Context) -> Steps:
            run = self._undos[step] = self._undos.get(step, 0) + 1
            self._log.handlers.append(f"compensate:{step}#{run}")
            for word, value in how.items():
                if word in _DO:
                    yield from self._act(ctx, step, run, {word: value}, None)
            return None

        return self._function(body, None, is_async=True)

    def condition(self, step: str, when: dict[str, Any]) -> Handler:
        known([when], _WHEN, f"step {step!r}: when")
        if "promise" in when:

            async def promised(ctx: Context) -> object:
                self._log.handlers.append(f"when:{step}")
                return when["promise"]

            return promised

        def condition(ctx: Context) -> object:
            self._log.handlers.append(f"when:{step}")
            if "throws" in when:
                raise Raised(when["throws"])
            if "const" in when:
                return when["const"]
            source, key = (ctx.input, when["input"]) if "input" in when else (ctx.data, when["data"])
            value = source.get(key) if isinstance(source, dict) else None
            return value == when["eq"] if "eq" in when else bool(value)

        return condition

    @staticmethod
    def validator(rule: dict[str, Any]) -> Callable[[Any], bool]:
        known([rule], {"required", "const", "throws"}, "workflow: validate")

        def validate(raw: Any) -> bool:
            if "throws" in rule:
                raise Raised(rule["throws"])
            if "const" in rule:
                return bool(rule["const"])
            return isinstance(raw, dict) and raw.get(rule["required"]) is not None

        return validate

    # --- how they run ---------------------------------------------------------------------------------------

    def _function(self, body: Callable[[Context], Steps], limit_ms: float | None, *, is_async: bool) -> Handler:
        """`body` yields the milliseconds it wants to sleep; sync and async handlers differ only in how they do so."""

        def sync_handler(ctx: Context) -> object:
            steps, spent = body(ctx), 0.0
            while True:
                try:
                    ms = next(steps)
                except StopIteration as stop:
                    return stop.value
                spent += ms
                if limit_ms is not None and spent > limit_ms:
                    time.sleep(UNTIL_CUT)
                elif (gate := self._gate_for(ms)) is not None:
                    gate.wait()

        async def async_handler(ctx: Context) -> object:
            steps, spent = body(ctx), 0.0
            while True:
                try:
                    ms = next(steps)
                except StopIteration as stop:
                    return stop.value
                spent += ms
                if limit_ms is not None and spent > limit_ms:
                    await asyncio.sleep(UNTIL_CUT)
                elif (gate := self._gate_for(ms)) is not None:
                    await asyncio.to_thread(gate.wait)
                else:
                    await asyncio.sleep(0)

        return async_handler if is_async else sync_handler

    def _output_of(self, ctx: Context, step: str) -> object:
        member = self._members.get(step)
        if member is None or member.group is None:
            return ctx.results.get(step)
        outputs = ctx.results.get(member.group)
        return None if outputs is None else outputs[step]

    def _gate_for(self, ms: float) -> Gate | None:
        gate = self.gate
        if gate is None or not gate.holds(ms):
            return None
        invocation = self.invocation()
        if invocation is not None:
            invocation.held()
        return gate

    def _act(self, ctx: Context, step: str, run: int, behaviour: dict[str, Any], outcome: object) -> Steps:
        """Carry out one entry of `do`; what it returns is what the handler returns if nothing follows."""
        for word, value in behaviour.items():
            match word:
                case "set":
                    ctx.data.update(value)
                case "incr":
                    ctx.data[value] = ctx.data.get(value, 0) + 1
                case "append":
                    ctx.data[value] = [*ctx.data.get(value, []), step]
                case "replaceData":
                    ctx.data = value
                case "copyOutputOf":
                    output = self._output_of(ctx, value)
                    if output is not None:  # an absent value leaves no key, as `undefined` leaves none in JSON
                        ctx.data[behaviour["into"]] = output
                case "fail":
                    known([value], {"message", "times"}, f"step {step!r}: fail")
                    if run <= value.get("times", run):
                        raise Raised(value["message"])
                case "sleep":
                    yield real_ms(value)
                    if behaviour.get("thenLog"):
                        self._log.handlers.append(f"late:{step}#{run}")
                case "wait":
                    outcome = wait(value)
                case "ret":
                    outcome = value
                case "recordCtx":
                    own = next(entry for entry in ctx.history if entry.name == step)
                    member = self._members.get(step)
                    place = ctx.current_step if member is None else member.number
                    seen = {"status": ctx.status, "currentStep": place, "self": own.status}
                    self._log.handlers.append("ctx:" + json.dumps(seen, separators=(",", ":")))
                case _:
                    pass  # `into` and `thenLog` belong to the word before them; others were refused when it was made
        return outcome


_DO = frozenset(
    {"set", "incr", "append", "replaceData", "copyOutputOf", "into", "fail", "sleep", "thenLog", "wait"}
) | {
    "ret",
    "recordCtx",
}
_UNDO = (_DO - {"wait", "ret"}) | {"ok", "times"}
_WHEN = frozenset({"const", "throws", "promise", "input", "data", "eq"})


def known(entries: list[dict[str, Any]], words: frozenset[str] | set[str], where: str) -> None:
    """`UnknownInCase` if one of the entries has a key that is not among `words`."""
    for entry in entries:
        strange = sorted(set(entry) - set(words))
        if strange:
            message = f"{where}: unknown word {strange[0]!r} (known: {', '.join(sorted(words))})"
            raise UnknownInCase(message)
