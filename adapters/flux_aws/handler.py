"""`lambda_handler`: workflows as a Lambda function. It converts, asks the host, converts back; it decides nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flux_aws import events
from flux_aws.function import open_function
from flux_aws.scheduler import after
from flux_core.deadline import MARGIN
from flux_core.errors import CallerError
from flux_core.http import to_response
from flux_core.invocation import problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flux_aws.function import OpenFunction
    from flux_core.engine import FluxEngine, Workflow
    from flux_core.host import Remaining
    from flux_core.ports import WorkflowStorage


def lambda_handler(
    *workflows: Workflow,
    storage: WorkflowStorage | None = None,
    engine: FluxEngine | None = None,
    only_callbacks: bool = False,
    **options: Any,
) -> LambdaHandler:
    """The handler of a function that runs `workflows`, for every event that AWS may bring it.

    `storage` and `options` (those of `FluxEngine`, such as `payloads`, `codec`, `trace`, `on`, `secrets`) win over the
    environment; `engine` is one that is ready. With `only_callbacks` it answers `/callbacks/{token}` over HTTP and
    nothing else. Nothing is read or opened before the first event, which raises `DefinitionError` for settings that
    cannot work.
    """
    return LambdaHandler(
        lambda: open_function(workflows, storage, engine, only_callbacks=only_callbacks, options=options)
    )


class LambdaHandler:
    """Called with an event and Lambda's context. What it opens serves all later events of the environment."""

    def __init__(self, open_: Callable[[], OpenFunction]) -> None:
        """`open_` makes engine and clients; it is called once."""
        self._open = open_
        self._opening = threading.Lock()
        self._opened: OpenFunction | None = None

    @property
    def function(self) -> OpenFunction:
        """What it runs on, opened if need be."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def __call__(self, event: object, context: Any = None) -> dict[str, Any]:
        """Answer an event. Raises only what has Lambda bring the event again."""
        function = self.function
        function.logger.begin(context)
        left = getattr(context, "get_remaining_time_in_millis", None)
        remaining = None if left is None else lambda: left() / 1000
        try:
            return events.sendable(_answer(function, event, remaining))
        finally:
            function.metrics.flush()


def _answer(function: OpenFunction, event: object, remaining: Remaining | None) -> dict[str, Any]:
    try:
        asked = events.read(event, function.base_path)
    except CallerError as error:
        reply = problem(error)
        function.tell(reply)
        return events.answer(to_response(reply)) if events.is_http(event) else reply.body
    if isinstance(asked, events.Batch):
        margin = 0.0 if remaining is None else min(MARGIN, remaining() / 10)
        return events.handled(asked, lambda message: _handle(function, message, remaining, margin))
    function.logger.about(asked.correlation)
    if isinstance(asked, events.Asked):
        return events.answer(function.host.http(asked.request, remaining))
    reply = function.host.direct(asked.mapping, remaining)
    if reply.retry and reply.error is not None:
        raise reply.error
    function.tell(reply)
    return reply.body


def _handle(function: OpenFunction, message: events.Message, remaining: Remaining | None, margin: float) -> bool:
    """Whether the message is done with; where no time is left for it, the queue brings it again."""
    if remaining is not None and remaining() <= margin:
        return False
    function.logger.about(message.id)
    with after(events.hops(message.body)):
        reply = function.host.message(message.body, remaining)
    function.tell(reply)
    return reply.error is None
