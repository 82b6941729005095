"""An instance as JSON, and JSON as an argument. Scripts read it: fields may be added, none renamed.

Values that JSON has no form for are written as the store writes them: `{"$decimal": "1.10"}`. What the engine redacts
is not shown here either.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flux_cli import standing
from flux_cli.exits import USAGE, CommandFailed
from flux_cli.lines import STANDARD_INPUT, parsed
from flux_cli.remedies import remedies
from flux_core.documents import error as failure
from flux_core.documents import iso, step
from flux_core.machine.identity import key_of

if TYPE_CHECKING:
    from flux_cli.inspection import Inspection


def json_argument(option: str, given: str | None) -> object:
    """The value of an option that takes JSON, `@file`, or `-` for standard input; None if it was not given."""
    if given is None:
        return None
    if given == STANDARD_INPUT:
        raw = sys.stdin.buffer.read()
    elif given.startswith("@"):
        try:
            raw = Path(given[1:]).read_bytes()
        except OSError as error:
            raise CommandFailed(
                f"{option}: {given[1:]!r} cannot be read: {error.strerror}; give a file, JSON, or - for standard input",
                USAGE,
            ) from error
    else:
        raw = given.encode(errors="surrogateescape")
    line = parsed(1, raw)
    if line.problem is not None:
        word = given.isprintable() and given not in {"", STANDARD_INPUT} and given[0] not in '@{["'
        hint = f"; a text is written {option} '\"{given}\"'" if word else ""
        raise CommandFailed(f"{option} is {line.problem}{hint}", USAGE)
    return line.value


def brief(seen: Inspection) -> dict[str, object]:
    """How an instance stands after a verb, and what can be done next."""
    state = seen.state
    error = state.error or state.failure
    return {
        "workflow": state.name,
        "id": state.id,
        "status": state.status,
        "since": iso(seen.since),
        "due": iso(seen.due),
        "error": None if error is None else failure(error),
        "waiting_for": list(state.awaited),
        "next": [remedy._asdict() for remedy in remedies(seen)],
    }


def whole(seen: Inspection) -> dict[str, object]:
    """Everything that is known of an instance."""
    state = seen.state
    return brief(seen) | {
        "tenant": state.tenant,
        "version": state.version,
        "created_at": iso(state.created_at),
        "updated_at": iso(state.updated_at),
        "ended_at": iso(state.completed_at),
        "owned_until": iso(state.lease_until) if state.owned else None,
        "expires_at": iso(state.expires),
        "deaths": state.deaths,
        "records": state.seq + 1,
        "waits": [
            {"step": path, "signals": list(wait.signals), "until": iso(wait.due)}
            for path, wait in state.waits.items()
            if path not in state.children
        ],
        "parent": None if state.parent is None else dict(zip(("workflow", "id", "step"), state.parent, strict=True)),
        "children": [{"step": one.path, **standing.child_of(one)} for one in seen.steps() if one.child],
        "input": seen.input,
        "data": seen.data,
        "steps": [
            step(one) | {"output": seen.shown(one.output)} | {"idempotency_key": key_of(state, one.path)}
            for one in seen.steps()
        ],
        "audit": [
            {"at": iso(one.at), "verb": one.verb, "step": one.step, "who": one.who, "why": one.why}
            for one in seen.audit()
        ],
        "mail": [
            {"name": letter.mail.name, "at": iso(letter.mail.at), "payload": seen.shown(letter.payload)}
            for letter in seen.letters()
        ],
    }
