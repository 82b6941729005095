"""A moto server that takes whole stacks: CloudFormation with the types that moto lacks, and what Terraform asks for.

`python -m tests.services.moto_cloud` serves on a free port that it prints. Beside the server of the stores' tests it is
one of its own: a stack leaves much behind.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request
from typing import Any, Final

from moto.awslambda import urls
from moto.awslambda.models import EventSourceMapping, LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.sqs.models import Queue, SQSBackend
from werkzeug.serving import make_server

from tests.services.moto_server import KeepsConnections, OneAtATime

_SCOPE: Final = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/")
_RECURSION: Final[dict[str, str]] = {}
_FUNCTIONS: Final = {"at": ""}


def _function(response: Any) -> str:
    return str(response.path.split("/functions/")[1].split("/")[0])


def _put_recursion_config(response: Any) -> tuple[int, dict[str, str], str]:
    _RECURSION[_function(response)] = json.loads(response.body)["RecursiveLoop"]
    return _get_recursion_config(response)


def _get_recursion_config(response: Any) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"RecursiveLoop": _RECURSION.get(_function(response), "Terminate")})


def _teach_recursion() -> None:
    """The recursion setting of functions, which moto has not."""
    responses: Any = LambdaResponse
    responses.put_function_recursion_config = _put_recursion_config
    responses.get_function_recursion_config = _get_recursion_config
    pattern = r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/recursion-config$"
    urls.url_paths[pattern] = LambdaResponse.dispatch


def _invoke(response: Any) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(f"{_FUNCTIONS['at']}/{_function(response)}", response.body.encode())  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310 -- a server of the test's own
        failed = answer.headers.get("X-Failed")
        return 200, {"x-amz-function-error": failed} if failed else {}, answer.read()


def _teach_invoking() -> None:
    """Invocations go to the address that was put to /functions, instead of into a container."""
    responses: Any = LambdaResponse
    responses.invoke = _invoke


def _teach_functions() -> None:
    """What Terraform compares with what it asked for: where a function logs to, and the alias of a mapping."""
    functions: Any = LambdaFunction
    mappings: Any = EventSourceMapping
    make, change, tell = functions.__init__, functions.update_configuration, functions.get_configuration
    tell_mapping = mappings.get_configuration
    name = "LoggingConfig"

    def make_and_keep(function: Any, account_id: str, spec: dict[str, Any], *rest: Any, **more: Any) -> None:
        function.logging_config = spec.get(name)
        make(function, account_id, spec, *rest, **more)

    def change_and_keep(function: Any, config_updates: dict[str, Any]) -> dict[str, Any]:
        function.logging_config = config_updates.get(name, function.logging_config)
        return dict(change(function, config_updates))

    def tell_all(function: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        known = {} if function.logging_config is None else {name: function.logging_config}
        return {**tell(function, *rest, **more), **known}

    def tell_alias(mapping: Any) -> dict[str, Any]:
        named = {"FunctionArn": mapping.function_name} if mapping.function_name.startswith("arn:") else {}
        return {**tell_mapping(mapping), **named}

    functions.__init__, functions.update_configuration = make_and_keep, change_and_keep
    functions.get_configuration, mappings.get_configuration = tell_all, tell_alias


def _teach_queues() -> None:
    """What Terraform waits for: RedriveAllowPolicy, Policy when others are set, RedrivePolicy without a blank."""
    name = "RedriveAllowPolicy"
    queues: Any = Queue
    backends: Any = SQSBackend
    set_attributes, get_attributes = queues._set_attributes, backends.get_queue_attributes

    def set_and_keep(queue: Any, attributes: dict[str, Any], now: Any = None) -> None:
        if name in attributes:
            queue.redrive_permission = attributes[name] or None  # an empty one takes it away
        policy = getattr(queue, "policy", None)
        set_attributes(queue, attributes, now)
        if "Policy" not in attributes:
            queue.policy = policy

    def get_and_add(backend: Any, queue_name: str, attribute_names: list[str]) -> dict[str, Any]:
        known = [one for one in attribute_names if one != name]
        found = get_attributes(backend, queue_name, known) if known else {}
        kept = getattr(backend.get_queue(queue_name), "redrive_permission", None)
        if kept is not None and {name, "All"} & {*attribute_names}:
            found[name] = kept
        if found.get("RedrivePolicy"):
            found["RedrivePolicy"] = json.dumps(json.loads(found["RedrivePolicy"]), separators=(",", ":"))
        return dict(found)

    queues._set_attributes = set_and_keep
    backends.get_queue_attributes = get_and_add


def _leave_messages_alone() -> None:
    """moto would start a container for the function that a queue is mapped to; a test brings the messages itself."""
    queues: Any = Queue
    queues.lambda_event_source_mappings = property(lambda _queue: {}, lambda _queue, _mappings: None)


class Recorded:
    """A WSGI application around the server's, which keeps who asked for what: GET /asked gives it, and begins anew.

    PUT /functions says at which address functions answer.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._asked: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/asked":
            told, self._asked = self._asked, []
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(told).encode()]
        if environ["PATH_INFO"] == "/functions":
            _FUNCTIONS["at"] = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
            start_response("204 No Content", [])
            return []
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope is not None:
            target = environ.get("HTTP_X_AMZ_TARGET", "")
            body = b""
            if target:  # then it is JSON, and of a length that is told
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                environ["wsgi.input"] = io.BytesIO(body)
            self._asked.append(
                {
                    "who": scope[1],
                    "service": scope[2],
                    "operation": target.rpartition(".")[2] or environ["REQUEST_METHOD"],
                    "path": environ["PATH_INFO"],
                    "query": environ.get("QUERY_STRING", ""),
                    "body": json.loads(body) if target else None,
                }
            )
        return self._application(environ, start_response)


def main() -> None:
    """Serve until killed."""
    from tests.services import moto_rotation, moto_types

    moto_rotation.teach()
    _teach_recursion()
    _teach_invoking()
    _teach_functions()
    _teach_queues()
    _leave_messages_alone()
    server = make_server("127.0.0.1", 0, Recorded(OneAtATime()), threaded=True, request_handler=KeepsConnections)
    moto_types.serve_from(f"http://127.0.0.1:{server.port}")
    print(server.port, flush=True)  # noqa: T201 -- whoever started it reads where it is
    server.serve_forever()


if __name__ == "__main__":
    main()
