"""The routes: HTTP requests as invocations, and replies as responses. The same on every cloud and on a laptop.

Pure: adapters turn their platform's event into a `Request` and a `Response` into their platform's answer. It must not
call an engine, and must not check who is calling: that is the gateway's, save for callbacks, whose token is signed.

    POST /workflows/{name}/executions                    start; the body is the input, Idempotency-Key the id
    GET  /workflows/{name}/executions                    list: ?status= &limit= &cursor=
    GET  /workflows/{name}/executions/{id}               ?include=data,history
    POST /workflows/{name}/executions/{id}/signals/{signal}
    POST /workflows/{name}/executions/{id}/steps/{step}/retry|complete|skip
    POST /workflows/{name}/executions/{id}/cancel|pause|unpause|resume
    POST /callbacks/{token}                              the body is the payload
    POST /invoke                                         the body is an invocation
"""

from __future__ import annotations

from flux_core.errors import CallerError, NotFound
from flux_core.invocation import parse, problem, read_json
from flux_core.jsontext import write
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from flux_core.invocation import Invocation, Reply

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
IDEMPOTENCY_KEY: Final = "idempotency-key"
_STEP_VERBS = {"retry": "retry_step", "complete": "complete_step", "skip": "skip_step"}
_VERBS = frozenset({"cancel", "pause", "unpause", "resume"})
_NOT_ALLOWED = 405
_UNAVAILABLE = 503


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    """From the root of the routes on, without the query; percent-encoded or not."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Response(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes


class MethodNotAllowed(CallerError):
    """The path is a route, but not for this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}, not {method[:20]!r}")
        self.allowed = allowed


def to_invocation(request: Request, most_bytes: int, *, only_callbacks: bool = False) -> Invocation:
    """What a request asks for. `NotFound`, `MethodNotAllowed` or another `CallerError` if it is no route of ours.

    Bodies of more than `most_bytes` are `PayloadTooLarge`. With `only_callbacks` no other route is known.
    """
    segments = request.path.strip("/").split("/")
    if only_callbacks and segments[0] != "callbacks":
        raise _no_route(request)
    return parse(_tree(request, segments, most_bytes))


def to_response(reply: Reply, request: Request | None = None) -> Response:
    """A reply as HTTP has it; errors as `application/problem+json`."""
    headers = {"content-type": JSON if reply.error is None else PROBLEM, "cache-control": "no-store"}
    status = reply.status
    if status == _UNAVAILABLE:
        headers["retry-after"] = "1"
    if isinstance(reply.error, MethodNotAllowed):
        headers["allow"] = reply.error.allowed
        status = _NOT_ALLOWED
        reply.body["status"] = status
    elif reply.error is None and request is not None and request.method == "POST" and "created" in reply.body:
        # From where the request went, since a stage or a base path may come before the routes.
        to_the_root = "../" * request.path.lstrip("/").count("/")
        headers["location"] = f"{to_the_root}workflows/{reply.body['workflow']}/executions/{reply.body['id']}"
    # A lone surrogate, which JSON may hold and UTF-8 may not, becomes the escape that JSON has for it.
    return Response(status, headers, write(reply.body).encode("utf-8", "backslashreplace"))


def to_problem(error: Exception) -> Response:
    """The response to what `to_invocation` refuses, and to what nobody expected."""
    return to_response(problem(error))


def _tree(request: Request, segments: list[str], most_bytes: int) -> Any:
    """The invocation that a request describes."""
    # The words of a route are compared as they came: a gateway that lets only some through compares them so, too.
    match segments:
        case ["callbacks", token]:
            _only(request, "POST")
            return {"action": "callback", "token": _decoded(token), "payload": _read(request, most_bytes)}
        case ["invoke"]:
            _only(request, "POST")
            return _read(request, most_bytes)
        case ["workflows", workflow, "executions"]:
            _only(request, "POST", "GET")
            named = {"workflow": _decoded(workflow)}
            if request.method == "GET":
                return {"action": "list", **named, **_listing(request)}
            body = _read(request, most_bytes)
            return {"action": "execute", **named, "id": _key(request), "input": body, **_how(request)}
        case ["workflows", workflow, "executions", id_]:
            _only(request, "GET")
            return {"action": "get", **_named(workflow, id_), **_included(request)}
        case ["workflows", workflow, "executions", id_, "signals", signal]:
            _only(request, "POST")
            mail = {"name": _decoded(signal), "payload": _read(request, most_bytes), "dedupe_id": _key(request)}
            return {"action": "signal", **_named(workflow, id_), **mail, **_how(request)}
        case ["workflows", workflow, "executions", id_, "steps", step, verb] if verb in _STEP_VERBS:
            _only(request, "POST")
            of = {"action": _STEP_VERBS[verb], **_named(workflow, id_), "step": _decoded(step)}
            return _arguments(request, most_bytes, of)
        case ["workflows", workflow, "executions", id_, verb] if verb in _VERBS:
            _only(request, "POST")
            return _arguments(request, most_bytes, {"action": verb, **_named(workflow, id_)})
    raise _no_route(request)


def _named(workflow: str, id_: str) -> dict[str, Any]:
    return {"workflow": _decoded(workflow), "id": _decoded(id_)}


def _no_route(request: Request) -> NotFound:
    return NotFound(
        f"there is no route {request.path[:200]!r}; routes begin with /workflows/NAME/executions or /callbacks/TOKEN"
    )


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(request.method, ", ".join(methods))


def _read(request: Request, most_bytes: int) -> Any:
    return read_json(request.body, "the body", most_bytes)


def _key(request: Request) -> str | None:
    """The header, in quotes (as its standard has it) or not."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if key == "":
        message = "the header Idempotency-Key is empty; send a key that is this request's own, or leave it out"
        raise CallerError(message)
    return key


def _arguments(request: Request, most_bytes: int, named: dict[str, Any]) -> dict[str, Any]:
    """What the path names, with the body as the verb's further arguments."""
    tree = _read(request, most_bytes)
    if tree is None:
        return named | _how(request)
    if type(tree) is not dict:
        message = 'the body has to be an object with the verb\'s arguments, such as {"who": "ann", "why": "..."}'
        raise CallerError(message)
    for name in named:
        if name in tree:
            message = f"{name!r} is said by the path; leave it out of the body"
            raise CallerError(message)
    return named | tree | _how(request)


def _how(request: Request) -> dict[str, Any]:
    mode = request.query.get("mode")
    return _included(request) | ({} if mode is None else {"mode": mode})


def _included(request: Request) -> dict[str, Any]:
    include = request.query.get("include")
    return {} if include is None else {"include": [one for one in include.split(",") if one]}


def _listing(request: Request) -> dict[str, Any]:
    query = request.query
    tree: dict[str, Any] = {}
    if "status" in query:
        tree["status"] = query["status"].split(",")
    if "cursor" in query:
        tree["cursor"] = query["cursor"]
    if "limit" in query:
        text = query["limit"]
        tree["limit"] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text  # noqa: PLR2004 -- no number that large is a page
    return tree


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    from urllib.parse import unquote

    return unquote(segment)
