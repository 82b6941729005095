"""The verbs as data: what arrives from outside as a mapping, what it does with an engine, and what is answered.

Every way in ends here: a direct invocation is such a mapping, a queue's message is its text, and `flux_core.http` makes
one of a request. Adapters add nothing to it. It must not know HTTP, a cloud, or how a verb works.

    {"action": "execute", "workflow": "order", "input": {"total": 5}, "id": "o-1"}
    {"action": "signal", "workflow": "order", "id": "o-1", "name": "approval", "payload": {"by": "ann"}}
    {"action": "retry_step", "workflow": "order", "id": "o-1", "step": "charge"}
"""

from __future__ import annotations

from flux_core import documents
from flux_core.errors import (
    CallerError,
    Conflict,
    CorruptRecord,
    DefinitionError,
    ExpiredToken,
    FluxError,
    InputInvalid,
    InvalidToken,
    InvocationError,
    NotFound,
    PayloadTooLarge,
    Refused,
    StepFault,
    WorkflowFailed,
)
from flux_core.jsontext import parse as parse_json
from flux_core.jsontext import write
from flux_core.names import check_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from flux_core.engine import DeadlineLike, FluxEngine
    from flux_core.ports import InstanceRef
    from flux_core.result import FluxResult

SYNC: Final = "sync"
ASYNC: Final = "async"
PARTS: Final = ("api", "worker", "sweeper", "purge", "operator")
"""What a function can be to the others; the last is a person with the command line. `flux_core.doctor` tries them."""

_READABLE: Final = 80
"""Characters of a value that a message shows."""
_FEW: Final = 5
"""Texts of a list that a message shows."""
_LONGEST_DETAIL: Final = 2000
"""Characters of a problem's detail: it may name what a caller sent, who may send a name of 200 KB."""

_TEXT = "a text"
_MAPPING = "an object"
_FLAG = "true or false"
_NUMBER = "a whole number from 0 on"
_LIMIT = "a whole number from 1 to 1000"
_ANY = "anything"
_MODE = f"{SYNC!r} (run as far as the deadline allows, the default) or {ASYNC!r} (record it and return)"
_INCLUDE = f"a list of {', '.join(documents.INCLUDED)}"
_STATUS = "a status, or a list of them"
_PART = f"the part that the function plays ({', '.join(PARTS)})"
_STEP = "the name of a step, or its number from 0 on"

_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    _TEXT: lambda value: type(value) is str,
    _MAPPING: lambda value: type(value) is dict,
    _FLAG: lambda value: type(value) is bool,
    _NUMBER: lambda value: type(value) is int and value >= 0,
    _LIMIT: lambda value: type(value) is int and 0 < value <= 1000,  # noqa: PLR2004 -- as the message says
    _ANY: lambda _value: True,
    _MODE: lambda value: value in (SYNC, ASYNC),
    _INCLUDE: lambda value: type(value) is list and all(one in documents.INCLUDED for one in value),
    _PART: lambda value: type(value) is str and value in PARTS,
    _STATUS: lambda value: type(value) is str or (type(value) is list and all(type(one) is str for one in value)),
    _STEP: lambda value: type(value) in {str, int},
}
_INSTANCE = {"workflow": _TEXT, "id": _TEXT}
_ANSWER = {"mode": _MODE, "include": _INCLUDE}
_WHO = {"who": _TEXT, "why": _TEXT}
_STEP_OF = {**_INSTANCE, "step": _TEXT}

_FIELDS: Final[dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    "execute": ({"workflow": _TEXT}, {"input": _ANY, "id": _TEXT, **_ANSWER}),
    "signal": ({**_INSTANCE, "name": _TEXT}, {"payload": _ANY, "dedupe_id": _TEXT, **_ANSWER}),
    "callback": ({"token": _TEXT}, {"payload": _ANY, "mode": _MODE}),
    "retry_step": (_STEP_OF, {"data": _MAPPING, "force": _FLAG, **_WHO, **_ANSWER}),
    "complete_step": (_STEP_OF, {"output": _ANY, **_WHO, **_ANSWER}),
    "skip_step": (_STEP_OF, {**_WHO, **_ANSWER}),
    "resume": (_INSTANCE, {"from_step": _STEP, **_WHO, **_ANSWER}),
    "cancel": (_INSTANCE, {"reason": _TEXT, "who": _TEXT, **_ANSWER}),
    "pause": (_INSTANCE, {**_WHO, **_ANSWER}),
    "unpause": (_INSTANCE, {**_WHO, **_ANSWER}),
    "get": (_INSTANCE, {"include": _INCLUDE}),
    "list": ({}, {"workflow": _TEXT, "status": _STATUS, "limit": _LIMIT, "cursor": _TEXT}),
    "wake": (_INSTANCE, {"tenant": _TEXT, "hops": _NUMBER}),
    "sweep": ({}, {"limit": _LIMIT}),
    "purge": ({}, {"limit": _LIMIT}),
    "doctor": ({}, {"part": _PART}),
}
"""By action: the fields that it needs, and those that it may have."""

ACTIONS: Final = tuple(_FIELDS)

_STATUS_OF: Final = (
    (InvalidToken, 403),
    (ExpiredToken, 410),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 409),
    (PayloadTooLarge, 413),
    (InputInvalid, 422),
    (DefinitionError, 500),
    (CallerError, 400),
    (InvocationError, 503),
    (CorruptRecord, 500),
    (StepFault, 500),
    (WorkflowFailed, 500),
)
"""The HTTP status of an error: that of the first of these classes that it is one of. No verb raises the last two."""
_OURS: Final = 500
"""From here on a status says that it is not the caller's doing."""


class Invocation:
    """One verb with its arguments, checked."""

    __slots__ = ("action", "arguments", "include", "mode")

    def __init__(self, action: str, arguments: dict[str, Any], mode: str, include: tuple[str, ...]) -> None:
        self.action = action
        self.arguments = arguments
        """Without `mode` and `include`."""
        self.mode = mode
        self.include = include


class Reply:
    """What is answered."""

    __slots__ = ("body", "error", "status")

    def __init__(self, status: int, body: dict[str, Any], error: Exception | None = None) -> None:
        self.status = status
        """As HTTP has it: 200 for an instance that has ended, 202 for one that has not, 4xx and 5xx for errors."""
        self.body = body
        """JSON types. Of an error it is a problem (RFC 9457)."""
        self.error = error

    @property
    def retry(self) -> bool:
        """Whether nothing is wrong with the request, so that it should be made again."""
        return isinstance(self.error, InvocationError)

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.body}>"


def parse(tree: object) -> Invocation:
    """The invocation that a mapping describes. `CallerError` says which field is wrong, and what it may be."""
    if type(tree) is not dict:
        message = f"an invocation is an object with an action ({', '.join(ACTIONS)}), not {type(tree).__name__}"
        raise CallerError(message)
    action = tree.get("action")
    found = _FIELDS.get(action) if type(action) is str else None
    if found is None or type(action) is not str:
        message = f"the action of an invocation is one of {', '.join(ACTIONS)}; got {_shown(action)}"
        raise CallerError(message)
    needed, allowed = found
    arguments: dict[str, Any] = {}
    for name, value in tree.items():
        form = needed.get(name) or allowed.get(name)
        if name == "action" or (value is None and form is not _ANY and name not in needed):
            continue
        if form is None:
            message = f"{action!r} has no field {_shown(name)}; it has {', '.join([*needed, *allowed])}"
            raise CallerError(message)
        if not _CHECKS[form](value):
            message = f"{name!r} of {action!r} has to be {form}; got {_shown(value)}"
            raise CallerError(message)
        arguments[name] = value
    missing = [name for name in needed if name not in arguments]
    if missing:
        message = f"{action!r} needs {' and '.join(repr(name) for name in missing)}"
        raise CallerError(message)
    mode, include = arguments.pop("mode", SYNC), tuple(arguments.pop("include", ()))
    return Invocation(action, arguments, mode, include)


def dispatch(
    engine: FluxEngine, invocation: Invocation, deadline: DeadlineLike | None = None, *, nudge: bool = False
) -> Reply:
    """Carry an invocation out. What the kit raises on purpose is answered as a problem, everything else raised.

    `nudge`: the transport does not redeliver, so the due index has to know of signals (PROTOCOL rule 11).
    """
    action, arguments = invocation.action, dict(invocation.arguments)
    try:
        match action:
            case "get":
                return Reply(200, documents.instance(engine.get(**arguments), invocation.include))
            case "list":
                workflow = arguments.pop("workflow", None)
                name = None if workflow is None else check_key("workflow", workflow)
                return Reply(200, documents.page(engine.list(name, **arguments)))
            case "sweep":
                return Reply(200, {"asked": engine.sweep(**arguments, deadline=deadline)})
            case "purge":
                return _purge(engine, deadline, **arguments)
            case "doctor":
                return _examined(engine, **arguments)
            case "wake":
                arguments.pop("hops", None)
                return _tick(engine, arguments, deadline)
            case "signal":
                arguments["nudge"] = nudge
        verb: Callable[..., FluxResult] = getattr(engine, action)
        result = verb(**arguments, deadline=deadline, advance=invocation.mode == SYNC)
        reply = _answer(result, invocation.include)
    except FluxError as error:
        return _to_outsiders(error) if action == "callback" else problem(error)
    if action == "execute":
        reply.body["created"] = result.created
    elif action == "callback":
        reply.body = {"id": result.id, "status": result.status}
    return reply


def problem(error: Exception) -> Reply:
    """The answer that tells of an error. What is no error of the kit's is not shown to callers."""
    status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
    known = isinstance(error, FluxError)
    name = type(error).__name__ if known else "InternalError"
    body = {
        "type": f"urn:flux:problem:{name}",
        "title": _spaced(name),
        "status": status,
        "detail": brief(error) if known else "an unexpected error; the function's log has it",
    }
    return Reply(status, body, error)


def brief(error: Exception) -> str:
    """What the error says, cut where it is longer than a line of a log should be."""
    text = str(error)
    half = _LONGEST_DETAIL // 2
    return text if len(text) <= _LONGEST_DETAIL else f"{text[:half]} ... {text[-half:]}"


def wake_message(ref: InstanceRef, hops: int = 0) -> str:
    """The text of the message by which a queue brings a tick; `hops` counts the messages that led to it."""
    tree: dict[str, Any] = {"action": "wake", "tenant": ref.tenant, "workflow": ref.workflow, "id": ref.id}
    if hops:
        tree["hops"] = hops
    return write(tree)


def read_json(body: bytes | str, what: str, most_bytes: int) -> Any:
    """The JSON value of a text; None for an empty one. `CallerError` says what is wrong with `what`."""
    size = len(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))
    if size > most_bytes:
        message = (
            f"{what} has {size} bytes; at most {most_bytes} are taken (FLUX_MOST_BYTES): put what is larger into "
            f"a store of its own, and send its address"
        )
        raise PayloadTooLarge(message)
    try:
        text = body if isinstance(body, str) else body.decode()
        return parse_json(text) if text.strip() else None
    except UnicodeDecodeError as error:
        message = f"{what} is not UTF-8 (byte {error.start}); send JSON in UTF-8"
        raise CallerError(message) from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        message = f"{what} is not JSON: {why}"
        raise CallerError(message) from None


def _to_outsiders(error: FluxError) -> Reply:
    """The problem as the holder of a callback link may see it: he is told of the link, not of what is behind it."""
    reply = problem(error)
    if isinstance(error, NotFound):
        reply.body["detail"] = "what this callback link belongs to is not there any more"
    elif reply.status >= _OURS:
        reply.body["detail"] = "the callback could not be taken; try it again later"
    return reply


def _tick(engine: FluxEngine, arguments: dict[str, Any], deadline: DeadlineLike | None) -> Reply:
    """A tick is but a hint, so there is no reason to bring it again to an instance that was deleted meanwhile.

    Nor to one whose workflow this engine does not know: the due index has it, for the deployment that does.
    """
    try:
        reply = _answer(engine.wake(**arguments, deadline=deadline))
    except NotFound as error:
        return Reply(200, {"id": arguments["id"], "status": "gone", "detail": brief(error)})
    if arguments.get("tenant", engine.tenant) != engine.tenant:
        reply.body = {"id": reply.body["id"], "status": reply.body["status"]}  # the rest is that tenant's alone
    return reply


def _purge(
    engine: FluxEngine, deadline: DeadlineLike | None, *, older_than: float | None = None, limit: int = 1000
) -> Reply:
    """Who asks has no say in what is old enough: the settings of the function that deletes say it."""
    from flux_core.retention import purge

    if older_than is None:
        message = "this function does not delete; the one that may is told by FLUX_PURGE_AFTER (seconds) what is old"
        raise Refused(message)
    purged = purge(engine, older_than, limit, deadline=deadline)
    return Reply(200, {"deleted": purged.deleted, "left": purged.left, "finished": purged.finished})


def _examined(engine: FluxEngine, part: str = PARTS[0], timekeeper: str | None = None) -> Reply:
    from flux_core.doctor import examine, healthy

    findings = list(examine(engine, part, timekeeper))
    told = [finding.tree() for finding in findings]
    return Reply(200, {"part": part, "healthy": healthy(findings), "findings": told})


def _answer(result: FluxResult, include: tuple[str, ...] = ()) -> Reply:
    return Reply(200 if result.state.terminal else 202, documents.instance(result, include))


def _shown(value: object) -> str:
    """The value, if it is one that a message can hold; it may be as large and as deep as a body can be."""
    if isinstance(value, list) and 0 < len(value) <= _FEW and all(type(one) is str for one in value):
        return ", ".join(_shown(one) for one in value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str) and len(value) > _READABLE:
        return f"{value[:_READABLE]!r}..."
    return repr(value)[:_READABLE]


def _spaced(name: str) -> str:
    """`UnknownStep` as a title: `Unknown step`."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return words.capitalize()
