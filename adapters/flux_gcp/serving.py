"""The way of one event through a `Function`: convert, ask the host, convert back, with the event's trace in the log.

It must not decide what a verb does, nor keep anything that the next event could see.
"""

from __future__ import annotations

from time import monotonic
from traceback import format_exception
from typing import TYPE_CHECKING, Final

from flux_core.errors import CallerError, CorruptRecord
from flux_core.http import to_problem, to_response
from flux_gcp import events
from flux_gcp.logger import GoogleLogger, traced

if TYPE_CHECKING:
    import flask
    from cloudevents.http import CloudEvent

    from flux_core.host import Host
    from flux_core.invocation import Reply
    from flux_gcp.events import Answer, Trace
    from flux_gcp.function import Function

_FAILURE: Final = 500
_GIVEN_UP: Final = (b"given up; the log says why\n", 200, {"content-type": "text/plain"})


def serve(function: Function, incoming: flask.Request) -> Answer:
    """Answer a request, whatever it is.

    A task is answered 2xx also where it is hopeless, since Cloud Tasks would bring it for ever.
    """
    arrived = monotonic()
    with traced(events.trace(incoming.headers)):
        try:
            request = events.request(incoming)
            host = function.host()
        except Exception as error:  # noqa: BLE001 -- a setting that is wrong must be read in the log, not guessed
            return not_served(error, public=function.only_callbacks)
        task = not function.only_callbacks and events.is_task(request)
        if not task and (function.only_callbacks or not events.is_sweep(request)):
            return events.answer(host.http(request, function.remaining(host, arrived)))
        reply = host.message(request.body, function.remaining(host, arrived, task=task), once=not task)
        if task and _is_hopeless(reply):
            _give_up(host, reply.body["detail"], task=request.headers.get(events.TASK_HEADER))
            return _GIVEN_UP
        return events.answer(to_response(reply))


def deliver(function: Function, event: CloudEvent) -> None:
    """Carry out what a Pub/Sub message says; what may go well another time is raised."""
    arrived = monotonic()
    with traced(_trace()):
        try:
            host = function.host()
        except Exception as error:
            not_served(error)
            raise
        try:
            body = events.message(event)
        except CallerError as error:
            _give_up(host, str(error), event=event.get("id"))
            return
        reply = host.message(body, function.remaining(host, arrived))
        if _is_hopeless(reply):
            _give_up(host, reply.body["detail"], event=event.get("id"))
        elif reply.error is not None:
            raise reply.error


def _is_hopeless(reply: Reply) -> bool:
    """Whether it would fail in the same way however often it came."""
    return 400 <= reply.status < _FAILURE or isinstance(reply.error, CorruptRecord)  # noqa: PLR2004 -- HTTP's 4xx


def _give_up(host: Host, detail: object, **where: object) -> None:
    host.engine.logger.error("a message was given up", detail=detail, **where)


def not_served(error: Exception, *, public: bool = False) -> Answer:
    """The answer where no host could be asked, with a line of the log; in `public` it does not tell why."""
    response = to_problem(error)
    if response.status >= _FAILURE:
        if public:  # settings are not for everybody to read
            response = to_problem(RuntimeError())
        told = "".join(format_exception(error))
        GoogleLogger().error("the function cannot serve", error=repr(error), trace=told)
    return events.answer(response)


def _trace() -> Trace | None:
    """Of the request that has brought an event."""
    import flask

    return events.trace(flask.request.headers) if flask.has_request_context() else None
