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

    from flux_core.engine import FluxEngine
    from flux_core.hosting import HostSettings
    from flux_core.http import Request, Response
    from flux_core.invocation import Invocation, Reply

    Remaining = Callable[[], float]
    """Tells the seconds until the platform ends the invocation."""


class Host:
    """Serves requests, direct invocations, messages and sweeps with one engine. Thread-safe, as the engine is."""

    def __init__(self, engine: FluxEngine, settings: HostSettings, *, only_callbacks: bool = False) -> None:
        """With `only_callbacks` it answers `/callbacks/{token}` and nothing else."""
        self.engine = engine
        self.settings = settings
        self._only_callbacks = only_callbacks

    def http(self, request: Request, remaining: Remaining | None = None) -> Response:
        """Answer a request. `remaining` as the platform tells it; else the settings' budget counts from now."""
        try:
            invocation = to_invocation(request, self.settings.most_bytes, only_callbacks=self._only_callbacks)
            if invocation.action == "callback" and self.engine.scheduled:
                invocation.mode = ASYNC  # who holds a link gets no say in how long a function runs
            reply = self._told(dispatch(self.engine, invocation, self._http_deadline(remaining), nudge=True))
        except Exception as error:  # noqa: BLE001 -- a request is answered, whatever it is
            return to_problem(self._logged(error))
        return to_response(reply, request)

    def direct(self, tree: object, remaining: Remaining | None = None) -> Reply:
        """Carry out an invocation that is no message: nobody brings it again, unless `Reply.retry` has them do so."""
        return self._dispatched(lambda: parse(tree), remaining, nudge=True)

    def message(self, body: str | bytes, remaining: Remaining | None = None) -> Reply:
        """Carry out an invocation that a queue brings. Below 400 it is done with: the message may go."""
        return self._dispatched(lambda: parse(read_json(body, "the message")), remaining)

    def sweep(self, remaining: Remaining | None = None) -> Reply:
        """The sweeper: have everything ticked that is due, or will be soon."""
        return self._dispatched(lambda: parse({"action": "sweep"}), remaining)

    def _dispatched(self, read: Callable[[], Invocation], remaining: Remaining | None, *, nudge: bool = False) -> Reply:
        try:
            invocation = read()
            if invocation.action == "sweep":
                invocation.arguments.setdefault("limit", self.settings.sweep_limit)
                invocation.arguments["ahead"] = self.settings.sweep_ahead
            return self._told(dispatch(self.engine, invocation, remaining or self.settings.budget, nudge=nudge))
        except Exception as error:  # noqa: BLE001 -- one bad message must not take others with it
            return problem(self._logged(error))

    def _http_deadline(self, remaining: Remaining | None) -> float:
        limits = [self.settings.http_budget]
        if remaining is not None:
            limits.append(remaining())
        elif self.settings.budget is not None:
            limits.append(self.settings.budget)
        return min(limits)

    def _told(self, reply: Reply) -> Reply:
        """It, once the log has what an operator should know of."""
        if reply.error is not None and reply.status >= 500:  # noqa: PLR2004 -- HTTP's border between theirs and ours
            self.engine.logger.error("an invocation failed", error=repr(reply.error))
        return reply

    def _logged(self, error: Exception) -> Exception:
        reply = problem(error)
        if reply.status >= 500:  # noqa: PLR2004 -- HTTP's border between theirs and ours
            from traceback import format_exception

            self.engine.logger.error("an invocation failed", error=repr(error), trace="".join(format_exception(error)))
        return error
