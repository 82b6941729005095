"""The functions of a blueprint without a worker: Microsoft's converters of `azure-functions`, then the function."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import azure.functions as func
from azure.functions.meta import Datum, get_binding_registry

from flux_azure import blueprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flux_core import FluxEngine
    from flux_core.engine import Workflow

EVENTS = Path(__file__).resolve().parents[1] / "events" / "azure"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TraceContext:
    """As the runtime makes it."""

    trace_parent = TRACE


class Invocation:
    """The context of a function, as the runtime makes it."""

    invocation_id = "5b29e2cf-6965-4fa1-93c5-a546edceeac5"
    trace_context = TraceContext()
    thread_local_storage = threading.local()


class Functions:
    """An app's functions."""

    def __init__(self, *workflows: Workflow, engine: FluxEngine | None = None, **options: Any) -> None:
        app = func.FunctionApp()
        app.register_functions(blueprint(*workflows, engine=engine, **options))
        self._functions = {one.get_function_name(): one for one in app.get_functions()}

    def call(self, name: str, data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Any:
        """Convert `data` (a `TypedData`) as the worker does, and call the function with it."""
        function = self._functions[name]
        trigger = function.get_trigger()
        assert trigger is not None
        converter = get_binding_registry().get(trigger.type)  # type: ignore[no-untyped-call]
        assert converter is not None
        given = {key: datum(value) for key, value in (metadata or {}).items()}
        event = converter.decode(datum(data), trigger_metadata=given)
        return function.get_user_function()(**{trigger.name: event, "context": Invocation()})

    def play(self, name: str) -> Any:
        """A recorded event."""
        recorded = json.loads((EVENTS / f"{name}.json").read_text())
        (given,) = recorded["inputData"]
        return self.call(recorded["function"], given["data"], recorded["triggerMetadata"])

    def http(self, function: str, method: str, url: str, body: bytes = b"", **headers: str) -> func.HttpResponse:
        """A request as the host passes it on."""
        request = {"method": method, "url": url, "headers": headers, "body": {"bytes": base64.b64encode(body).decode()}}
        answer: func.HttpResponse = self.call(function, {"http": request})
        return answer


def datum(value: Mapping[str, Any]) -> Datum:
    """A `Datum`, as `azure_functions_runtime` makes one of a `TypedData`."""
    ((kind, content),) = value.items()
    if kind == "bytes":
        return Datum(base64.b64decode(content), "bytes")
    if kind != "http":
        return Datum(content, kind)
    fields = {
        "method": Datum(content["method"], "string"),
        "url": Datum(content["url"], "string"),
        "headers": {name: Datum(text, "string") for name, text in content.get("headers", {}).items()},
        "params": {name: Datum(text, "string") for name, text in content.get("params", {}).items()},
        "query": {name: Datum(text, "string") for name, text in content.get("query", {}).items()},
        "body": datum(content["body"]) if content.get("body") else Datum(b"", "bytes"),
    }
    return Datum(fields, "http")


def recorded() -> list[str]:
    """The names of all recorded events."""
    return sorted(path.stem for path in EVENTS.glob("*.json"))
