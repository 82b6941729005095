"""What a user's `main.py` exports: functions for the functions-framework.

    from flux_gcp import http_function
    from workflows import onboarding, order

    handler = http_function(order, onboarding)  # settings from the environment

What is given here wins over the environment; further options are `FluxEngine`'s. It must not look at an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_gcp.function import Function, Parts
from flux_gcp.serving import deliver, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    import flask
    from cloudevents.http import CloudEvent

    from flux_core.engine import FluxEngine, Workflow
    from flux_core.ports import Codec, PayloadStorage, WorkflowStorage
    from flux_gcp.events import Answer


def http_function(
    *workflows: Workflow,
    storage: WorkflowStorage | None = None,
    payloads: PayloadStorage | None = None,
    codec: Codec | None = None,
    engine: FluxEngine | None = None,
    **options: Any,
) -> Callable[[flask.Request], Answer]:
    """An HTTP function: the routes of Flux, the tasks of Cloud Tasks, and the sweep that Cloud Scheduler asks for.

    It does not check who calls: deploy it so that only those may who should.
    """
    function = Function(Parts(workflows, storage, payloads, codec, engine, options))

    def handler(request: flask.Request) -> Answer:
        return serve(function, request)

    return handler


def callback_function(
    *workflows: Workflow,
    storage: WorkflowStorage | None = None,
    payloads: PayloadStorage | None = None,
    codec: Codec | None = None,
    engine: FluxEngine | None = None,
    **options: Any,
) -> Callable[[flask.Request], Answer]:
    """An HTTP function for everybody: it takes callback links, which are signed, and nothing else."""
    function = Function(Parts(workflows, storage, payloads, codec, engine, options), only_callbacks=True)

    def handler(request: flask.Request) -> Answer:
        return serve(function, request)

    return handler


def cloud_event_function(
    *workflows: Workflow,
    storage: WorkflowStorage | None = None,
    payloads: PayloadStorage | None = None,
    codec: Codec | None = None,
    engine: FluxEngine | None = None,
    **options: Any,
) -> Callable[[CloudEvent], None]:
    """A function that Pub/Sub triggers: a message is an invocation as JSON.

    What may go well another time is raised, so Pub/Sub brings the message again; what can not is a line of the log.
    """
    function = Function(Parts(workflows, storage, payloads, codec, engine, options))

    def handler(event: CloudEvent) -> None:
        deliver(function, event)

    return handler
