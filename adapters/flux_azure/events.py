"""What Azure hands to a function, and what it gets back, as the core has them. It must not send, wait or raise.

An event that nobody should have sent becomes a request that the core refuses: with a status of 4xx over HTTP, and with
a message that goes to the poison queue from a queue.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import azure.functions as func

from flux_core.http import Request

if TYPE_CHECKING:
    from flux_core.http import Response

WORKFLOWS: Final = "/workflows"
INVOKE: Final = "/invoke"
CALLBACKS: Final = "/callbacks"

_KEYS: Final = frozenset({"code", "clientid"})
"""Parameters of a query by which the Functions host itself lets a caller in; nobody else is shown them."""


def to_request(event: func.HttpRequest, root: str) -> Request:
    """The core's request. `root` is where the function's route begins; a prefix of the app before it is left out."""
    path = event.url.partition("?")[0].partition("#")[0]
    path = path.partition("://")[2] if "://" in path else path
    at = f"{path}/".lower().find(f"{root}/")
    query = {str(name): str(value) for name, value in event.params.items() if str(name).lower() not in _KEYS}
    headers = {str(name).lower(): str(value) for name, value in event.headers.items()}
    return Request(event.method, path[max(at, 0) :], query, headers, event.get_body() or b"")


def to_response(response: Response) -> func.HttpResponse:
    """What the Functions host is to answer."""
    kind = response.headers.get("content-type", "application/json")
    return func.HttpResponse(response.body, status_code=response.status, headers=response.headers, mimetype=kind)


def message_body(event: func.QueueMessage) -> bytes:
    """The text of a queue message, in base64 or as it is: the host decodes it or not, as host.json says."""
    body = event.get_body().strip()
    if body.startswith(b"{"):
        return body
    try:
        decoded = base64.b64decode(body, validate=True)
    except ValueError:
        return body
    return decoded if decoded.lstrip().startswith(b"{") else body
