"""The functions of an app: HTTP, queue and timer. Each converts, asks the host, and converts back. It must not decide.

The whole of a user's function_app.py:

    import azure.functions as func
    from flux_azure import blueprint
    from workflows import onboarding, order

    app = func.FunctionApp()
    app.register_functions(blueprint(order, onboarding))

Settings come from the environment (docs/handlers-azure.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import azure.functions as func

from flux_azure.application import Application
from flux_azure.events import CALLBACKS, INVOKE, WORKFLOWS, message_body, to_request, to_response
from flux_azure.logger import enter
from flux_azure.rotation import rotate
from flux_azure.settings import PURGE_SCHEDULE, Triggers
from flux_core.errors import DefinitionError

if TYPE_CHECKING:
    from flux_core import FluxEngine
    from flux_core.engine import Workflow
    from flux_core.invocation import Reply
    from flux_core.ports import Codec, PayloadStorage, WorkflowStorage

_LOOK_AT_KEYS = "0 41 3 * * *"
_DONE = 400
"""Below it a message is done with."""


class NotDone(Exception):
    """Raised to the Functions host, which brings the message again and, in the end, puts it into the poison queue."""


def blueprint(
    *workflows: Workflow,
    storage: WorkflowStorage | None = None,
    payloads: PayloadStorage | None = None,
    codec: Codec | None = None,
    engine: FluxEngine | None = None,
    auth_level: func.AuthLevel = func.AuthLevel.FUNCTION,
    **options: Any,
) -> func.Blueprint:
    """The functions that serve `workflows`: register them with the app.

    What is given wins over the environment; further `options` are `FluxEngine`'s, and an `engine` of your own takes
    the place of all of them. `auth_level` is that of all routes but `/callbacks`, which is public: its tokens are
    signed. Which queue and when to sweep is read now, all other settings at the first event. `DefinitionError` says
    what is wrong.
    """
    triggers = Triggers.from_env()
    given = {"storage": storage, "payloads": payloads, "codec": codec, **options}
    options = {name: value for name, value in given.items() if value is not None}
    if engine is not None and (workflows or options):
        raise DefinitionError("blueprint(engine=...) takes nothing else: give its workflows and options to the engine.")
    application = Application(workflows, engine, options)
    functions = func.Blueprint()  # type: ignore[no-untyped-call]

    if triggers.rotates:  # its identity may write the secret, and look at no instance

        @functions.function_name("flux_rotate")
        @functions.timer_trigger("timer", _LOOK_AT_KEYS)
        def flux_rotate(timer: func.TimerRequest, context: func.Context) -> None:  # noqa: ARG001 -- bound by its name
            enter(context)
            rotate()

        return functions

    if triggers.purges:  # its identity may delete: so it has nothing that anybody else can call

        @functions.function_name("flux_purge")
        @functions.timer_trigger("timer", PURGE_SCHEDULE)
        def flux_purge(timer: func.TimerRequest, context: func.Context) -> None:  # noqa: ARG001 -- bound by its name
            enter(context)
            _settle(application.host.direct({"action": "purge"}))

        return functions

    @functions.function_name("flux_workflows")
    @functions.route(f"{WORKFLOWS[1:]}/{{*rest}}", "event", methods=["GET", "POST"], auth_level=auth_level)
    def flux_workflows(event: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        enter(context)
        return to_response(application.host.http(to_request(event, WORKFLOWS)))

    @functions.function_name("flux_invoke")
    @functions.route(INVOKE[1:], "event", methods=["POST"], auth_level=auth_level)
    def flux_invoke(event: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        enter(context)
        return to_response(application.host.http(to_request(event, INVOKE)))

    @functions.function_name("flux_callbacks")
    @functions.route(f"{CALLBACKS[1:]}/{{token}}", "event", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
    def flux_callbacks(event: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        enter(context)
        return to_response(application.callbacks.http(to_request(event, CALLBACKS)))

    @functions.function_name("flux_sweep")
    @functions.timer_trigger("timer", triggers.schedule)
    def flux_sweep(timer: func.TimerRequest, context: func.Context) -> None:  # noqa: ARG001 -- bound by its name
        enter(context)
        _settle(application.host.sweep())

    if triggers.queue is not None:

        @functions.function_name("flux_work")
        @functions.queue_trigger("message", triggers.queue, "AzureWebJobsStorage")
        def flux_work(message: func.QueueMessage, context: func.Context) -> None:
            enter(context)
            _settle(application.host.message(message_body(message)))

    return functions


def _settle(reply: Reply) -> None:
    if reply.status >= _DONE:
        raise NotDone(f"{reply.body.get('title')}: {reply.body.get('detail')}") from reply.error
