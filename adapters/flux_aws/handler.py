"""`lambda_handler`: workflows as a Lambda function. It converts, asks the host and converts back; it decides nothing.

from flux_aws import lambda_handler
from workflows import onboarding, order

handler = lambda_handler(order, onboarding)  # settings from the environment
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flux_aws import events
from flux_aws.function import open_function
from flux_aws.scheduler import after
from flux_core.deadline import MARGIN
from flux_core.errors import CallerError
from flux_core.http import to_problem
from flux_core.invocation import problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flux_aws.function import OpenFunction
    from flux_core.engine import FluxEngine, Workflow
    from flux_core.invocation import Reply
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
        try:
            return events.sendable(self._answered(function, event, context))
        finally:
            function.metrics.flush()

    def _answered(self, function: OpenFunction, event: object, context: Any) -> dict[str, object]:
        remaining = _remaining(context)
        try:
            asked = events.read(event, function.base_path)
        except CallerError as error:
            function.logger.warn("an event cannot be read", error=str(error))
            return events.answer(to_problem(error)) if events.is_http(event) else problem(error).body
        if isinstance(asked, events.Asked):
            function.logger.about(asked.correlation)
            return events.answer(function.host.http(asked.request, remaining))
        if isinstance(asked, events.Batch):
            margin = 0.0 if remaining is None else min(MARGIN, remaining() / 10)

            def handle(message: events.Message) -> bool:
                function.logger.about(message.id)
                late = remaining is not None and remaining() <= margin
                return not late and self._handled(function, message, remaining)

            return events.handled(asked, handle)
        function.logger.about(asked.correlation)
        reply = function.host.direct(asked.mapping, remaining)
        if reply.retry and reply.error is not None:
            raise reply.error
        _tell(function, reply)
        return reply.body

    def _handled(self, function: OpenFunction, message: events.Message, remaining: Callable[[], float] | None) -> bool:
        """Whether the message is done with."""
        if message.body is None:
            function.logger.warn("a record is no message of SQS; its queue keeps it", message_id=message.id)
            return False
        with after(events.hops(message.body)):
            reply = function.host.message(message.body, remaining)
        _tell(function, reply)
        return reply.error is None


def _remaining(context: Any) -> Callable[[], float] | None:
    """Lambda's own clock of the invocation, in seconds; None where there is no context (a call by hand)."""
    left = getattr(context, "get_remaining_time_in_millis", None)
    return None if left is None else lambda: left() / 1000


def _tell(function: OpenFunction, reply: Reply) -> None:
    """Nobody may be waiting for the answer: what was wrong with the request is a line of the log."""
    if reply.error is not None:
        function.logger.warn("an invocation was refused", status=reply.status, error=str(reply.error))
