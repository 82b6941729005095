"""A worker of Azure Functions for tests: Microsoft's engine in a process of its own, spoken to in lines of JSON.

Run by the interpreter of `tests.services.azure_functions` as `python azure_worker.py FOLDER`, with nothing installed
but that engine and what the application needs. Indexing, conversion and invocation are the engine's own; the messages
that Azure sends it over gRPC are stood in for by objects with the same attributes.

It prints one line about the functions that it found, and then answers each line on standard input as it ends. What the
application prints or logs goes to standard error.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import uuid
from typing import Any


class Message:
    """Stands in for a message of protobuf: it has what it is given, and tells which of its fields was set."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        self._set = list(fields)

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 -- protobuf's name
        """The field that is set, of those of which only one may be."""
        present = [name for name in self._set if name != "name"]
        return present[0] if present else None


class StatusResult(Message):
    """How an invocation ended."""

    Failure, Success, Cancelled = 0, 1, 2


class RpcHttpCookie(Message):
    """A cookie of an answer."""

    SameSite = type("SameSite", (), {"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})


class Messages:
    """Stands in for the generated module: a class for each name that is asked for."""

    StatusResult = StatusResult
    RpcHttpCookie = RpcHttpCookie
    BindingInfo = type("BindingInfo", (Message,), {"in": 0, "out": 1, "inout": 2, "undefined": 0})

    def __getattr__(self, name: str) -> type[Message]:
        made = type(name, (Message,), {})
        setattr(self, name, made)
        return made


MESSAGES = Messages()


class Request:
    """What the engine is handed: the message under the name of its kind, and where the other classes are."""

    def __init__(self, kind: str, **fields: Any) -> None:
        self.request = Message(**{kind: Message(**fields)})
        self.properties = {"host": "127.0.0.1", "protos": MESSAGES}


def typed(value: dict[str, Any]) -> Message:
    """A `TypedData` out of `{"string": ...}`, `{"json": ...}`, `{"bytes": base64}` or `{"http": {...}}`."""
    ((kind, content),) = value.items()
    if kind == "bytes":
        return Message(bytes=base64.b64decode(content))
    if kind == "http":
        whole = {"params": {}, "query": {}, "headers": {}, **content}
        body = content.get("body")
        return Message(http=Message(**{**whole, "body": typed(body) if body else Message()}))
    return Message(**{kind: content})


def untyped(message: Message | None) -> dict[str, Any] | None:
    """The other way round."""
    kind = None if message is None else message.WhichOneof("data")
    if message is None or kind is None:
        return None
    content = getattr(message, kind)
    if kind == "bytes":
        return {"bytes": base64.b64encode(content).decode()}
    if kind == "http":
        body = untyped(content.body) or {"bytes": ""}
        return {"http": {"status_code": content.status_code, "headers": content.headers, "body": body}}
    return {kind: content}


async def invoke(engine: Any, ids: dict[str, str], call: dict[str, Any]) -> dict[str, Any]:
    """One invocation, from line to line."""
    number = str(uuid.uuid4())
    answer = await engine.invocation_request(
        Request(
            "invocation_request",
            invocation_id=number,
            function_id=ids[call["function"]],
            input_data=[Message(name=name, data=typed(value)) for name, value in call["inputs"].items()],
            trigger_metadata={name: typed(value) for name, value in call.get("metadata", {}).items()},
            trace_context=Message(trace_parent=call.get("trace", ""), trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
    )
    failed = answer.result.status != StatusResult.Success
    return {
        "call": call["call"],
        "invocation": number,
        "error": answer.result.exception.message if failed else None,
        "stack": answer.result.exception.stack_trace if failed else None,
        "return": None if failed else untyped(getattr(answer, "return_value", None)),
    }


async def serve(folder: str, answers: int) -> None:
    """Index, tell what was found, and answer until standard input ends."""
    import azure_functions_runtime as engine

    def tell(line: dict[str, Any]) -> None:
        os.write(answers, json.dumps(line).encode() + b"\n")

    engine.start_threadpool_executor()
    begun = await engine.worker_init_request(
        Request("worker_init_request", capabilities={}, function_app_directory=folder)
    )
    if begun.result.status != StatusResult.Success:
        tell({"failed": begun.result.exception.message, "stack": begun.result.exception.stack_trace})
        return
    found = (await engine.functions_metadata_request(Request("functions_metadata_request"))).function_metadata_results
    tell({"functions": {one.name: [json.loads(binding) for binding in one.raw_bindings] for one in found}})
    ids = {one.name: one.function_id for one in found}
    loop = asyncio.get_running_loop()
    under_way = set()

    async def answer(call: dict[str, Any]) -> None:
        tell(await invoke(engine, ids, call))

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = loop.create_task(answer(json.loads(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


def main() -> None:
    """Keep standard output for the answers."""
    folder = sys.argv[1]
    answers = os.dup(1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    sys.path.insert(0, folder)
    asyncio.run(serve(folder, answers))
    os._exit(0)  # as the host ends it: nobody waits for threads


if __name__ == "__main__":
    main()
