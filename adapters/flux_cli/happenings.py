"""One record of a log as a line, for somebody who watches. It must not know how an instance stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_cli.moments import seconds, stamp
from flux_cli.styles import printable
from flux_core import records as r
from flux_core.machine import said
from flux_core.machine.identity import is_end_signal

if TYPE_CHECKING:
    from typing import Any

    from flux_core.records import Record


def line(record: Record) -> str | None:
    """`14:03:11 charge completed (0.2 s)`; None for a record that is of no interest."""
    said = _said(record)
    return None if said is None else printable(f"{stamp(record.at)[11:]} {said}")


def _said(record: Record) -> str | None:
    body = record.body
    path = body.get("p")
    match record.type:
        case r.START:
            return "started"
        case r.CLAIM:
            return "taken up by an invocation"
        case r.RENEW:
            return None
        case r.STEP:
            return f"{path} {_outcome(body)}"
        case r.SKIPPED:
            return f"{path} skipped"
        case r.DECIDE:
            return said(body)
        case r.INTENT:
            return f"{path} {'is being undone' if 'undo' in body else 'begins'}, attempt {body['a']}"
        case r.COMP:
            return f"{path} {'could not be undone: ' + body['e'][1] if 'e' in body else 'undone'}"
        case r.RETRY_WAIT:
            return f"{path} failed, attempt {body['a']}: {body['e'][1]}; next at {stamp(body['due'])[11:]}"
        case r.RECV if "e" in body:
            return f"{path} failed: {body['e'][1]}"
        case r.RECV:
            return f"{path} {'completed by its child' if is_end_signal(body['m']) else 'has its signal'}"
        case r.CHILD:
            return f"{path} starts {body['wf']} {body['id']}" + (" and waits for its end" if "wait" in body else "")
        case r.JOIN:
            return f"{path}: what was written at the same time is merged"
        case r.TIMEOUT if path is None:
            return f"the time of the whole is over: {body['e'][1]}"
        case r.TIMEOUT:
            return f"{path} {'failed: ' + body['e'][1] if 'e' in body else 'has waited long enough'}"
        case r.SUSP:
            return "laid down until its time, or a signal, comes"
        case r.YIELD:
            return "handed over to the next invocation"
        case r.END:
            return str(body["s"])
        case r.STUCK | r.BLOCKED:
            return f"{record.type}: {body['d']}"
        case r.CANCELREQ:
            return f"cancel{_asked(body)}"
        case r.ADOPT:
            return "goes on with a changed definition"
        case r.RETRY:
            return f"retry of {path}{_asked(body)}"
        case r.RESOLVE:
            return f"{path} {body['h']} by hand{_asked(body)}"
        case other:
            return f"{other}{_asked(body)}"


def _outcome(body: dict[str, Any]) -> str:
    if "e" in body:
        return f"failed: {body['e'][1]}"
    if "w" in body:
        return f"waits for {' or '.join(body['w'][0])}" if body["w"][0] else "sleeps"
    return "kept from before" if "h" in body else f"completed ({seconds(body['ms'])})"


def _asked(body: dict[str, Any]) -> str:
    by = f" by {body['by']}" if body.get("by") else ""
    why = f": {body['why']}" if body.get("why") else ""
    return f"{by}{why}"
