"""`Host`: an engine behind a cloud's function. The whole of a handler but for the conversion of events and answers.

A host answers whatever arrives: what a caller did wrong is an answer, what broke here is an answer and a line of the
log. It must not know a cloud, and holds nothing of any instance between two calls.
"""

from __future__ import annotations

from flux_core.http import to_invocation, to_problem, to_response
from flux_core.invocation import ASYNC, dispatch, parse, problem, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from flux_core.engine import DeadlineLike, FluxEngine
    from flux_core.hosting import HostSettings
    from flux_core.http import Request, Response
    from flux_core.invocation import Invocation, Reply

    Remaining = Callable[[], float]
    """Tells the seconds until the platform ends the invocation."""

_OURS: Final = 500
"""From here on an HTTP status says that it is not the caller's doing."""


class Host:
    """Serves requests, direct invocations, messages and sweeps with one engine. Thread-safe, as the engine is."""

    def __init__(
        self,
        engine: FluxEngine,
        settings: HostSettings,
        *,
        only_callbacks: bool = False,
        timekeeper: str | None = None,
    ) -> None:
        """With `only_callbacks` it answers `/callbacks/{token}` and nothing else.

        `timekeeper`: an HTTP address of the cloud's, whose clock the doctor compares with this machine's.
        """
        self.engine = engine
        self.settings = settings
        self.timekeeper = timekeeper
        self._only_callbacks = only_callbacks

    def http(self, request: Request, remaining: Remaining | None = None) -> Response:
        """Answer a request. `remaining` as the platform tells it; else the settings' budget counts from now."""
        try:
            invocation = to_invocation(request, self.settings.most_bytes, only_callbacks=self._only_callbacks)
            if invocation.action == "callback" and self.engine.scheduled:
                invocation.mode = ASYNC  # who holds a link gets no say in how long a function runs
            reply = self._carried_out(invocation, self._http_deadline(remaining), nudge=True)
            return to_response(reply, request)
        except Exception as error:  # noqa: BLE001 -- a request is answered, whatever it is
            return to_problem(self._logged(error))

    def direct(self, tree: object, remaining: Remaining | None = None) -> Reply:
        """Carry out an invocation that is no message: nobody brings it again, unless `Reply.retry` has them do so."""
        return self._answered(lambda: parse(tree), remaining, nudge=True)

    def message(self, body: str | bytes, remaining: Remaining | None = None, *, once: bool = False) -> Reply:
        """Carry out an invocation that a queue brings. Below 400 it is done with: the message may go.

        `once`: who brings it does not bring it again if this dies half-way, as a queue does.
        """

        def read() -> Invocation:
            return parse(read_json(body, "the message", self.settings.most_bytes))

        return self._answered(read, remaining, nudge=once)

    def sweep(self, remaining: Remaining | None = None) -> Reply:
        """The sweeper: have everything ticked that is due, or will be soon."""
        return self._answered(lambda: parse({"action": "sweep"}), remaining)

    def _answered(self, read: Callable[[], Invocation], remaining: Remaining | None, *, nudge: bool = False) -> Reply:
        try:
            return self._carried_out(read(), remaining or self.settings.budget, nudge=nudge)
        except Exception as error:  # noqa: BLE001 -- one bad message must not take others with it
            return problem(self._logged(error))

    def _carried_out(self, invocation: Invocation, deadline: DeadlineLike | None, *, nudge: bool) -> Reply:
        if invocation.action == "sweep":
            invocation.arguments.setdefault("limit", self.settings.sweep_limit)
            invocation.arguments["ahead"] = self.settings.sweep_ahead
        elif invocation.action == "purge":
            invocation.arguments["older_than"] = self.settings.purge_after
        elif invocation.action == "doctor":
            invocation.arguments["timekeeper"] = self.timekeeper
        reply = dispatch(self.engine, invocation, deadline, nudge=nudge)
        if reply.error is not None and reply.status >= _OURS:
            self.engine.logger.error("an invocation failed", error=repr(reply.error))
        return reply

    def _http_deadline(self, remaining: Remaining | None) -> DeadlineLike:
        """What is left until the answer is due, or the platform's limit if that is less."""
        budget = self.settings.http_budget
        if remaining is None:
            return budget if self.settings.budget is None else min(budget, self.settings.budget)
        clock = self.engine.clock
        due = clock.monotonic() + budget
        return lambda: min(due - clock.monotonic(), remaining())

    def _logged(self, error: Exception) -> Exception:
        """It, once the log has what a developer should know of it."""
        if problem(error).status >= _OURS:
            from traceback import format_exception

            self.engine.logger.error("an invocation failed", error=repr(error), trace="".join(format_exception(error)))
        return error
