"""What a deployment needs, tried where it runs: every use of the store, the payloads, the queue and the keys.

A permission shows only when it is used. So each use is made once, on an instance of the doctor's own (`PROBE`), whose
tenant nobody else has: it leaves one record, one signal, one snapshot and one payload, the same ones every time, and
never becomes due. No instance of a user's is touched. It must not know a cloud, print, or raise what it finds.
"""

from __future__ import annotations

from flux_core.callbacks import Ticket
from flux_core.errors import FluxError
from flux_core.keys import sha256
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.state import COMPLETED
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Final

    from flux_core.engine import FluxEngine
    from flux_core.ports import PayloadStorage

    Use = Callable[[FluxEngine], tuple[str, str] | None]
    """Makes a use and tells its standing and what was seen; None if there is nothing to use. Raises what went wrong."""

OK: Final = "ok"
WARNING: Final = "warning"
FAILURE: Final = "failure"
UNKNOWN: Final = "unknown"
"""It could not be looked at; that is no fault of the deployment."""

HERE: Final = "here"
"""Where a finding was made that is of no function's own: on the machine that runs the command line."""

PROBE: Final = InstanceRef("flux-doctor", "flux-doctor", "probe")
OVERDUE: Final = 300.0
"""Seconds. A sweeper comes every minute, so what was due before that was not woken, or its ticks fail."""
SKEW: Final = 2.0
"""Seconds that clocks may differ by before it is worth a word."""
WORST_SKEW: Final = 10.0
"""Seconds. Named tasks and the grace after a signal are made for clocks that differ by less."""
_TIMEOUT: Final = 3.0
_PAYLOAD: Final = b"flux doctor"
_FEW: Final = 3


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    standing: str
    """`OK`, `WARNING`, `FAILURE` or `UNKNOWN`."""
    said: str
    """What was seen; of a fault, also what to do."""

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Finding:
        """Of what `tree` gave. `KeyError` or `TypeError` for anything else."""
        return cls(str(tree["subject"]), str(tree["standing"]), str(tree["said"]))

    def tree(self) -> dict[str, str]:
        """As JSON types."""
        return {"subject": self.subject, "standing": self.standing, "said": self.said}


def examine(engine: FluxEngine, part: str, timekeeper: str | None = None) -> Iterator[Finding]:
    """Try what a function that plays `part` (one of `USES`) needs. `timekeeper`: an HTTP address whose clock counts.

    A finding each, as it is made; what is not set is left out.
    """
    if timekeeper is not None:
        yield clock_finding(timekeeper, engine.clock.now)
    for use in USES[part]:
        finding = _tried(use, engine)
        if finding is not None:
            yield finding


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing has failed."""
    return all(finding.standing != FAILURE for finding in findings)


def clock_finding(timekeeper: str, now: Callable[[], int]) -> Finding:
    """How this machine's clock stands to that of the server at `timekeeper`, by the `Date` of its answer."""
    subject = "clock"
    before = now()
    try:
        there = _date(timekeeper)
    except (OSError, ValueError) as error:
        return Finding(subject, UNKNOWN, f"{timekeeper} did not tell the time ({error}), so clocks were not compared")
    # The header has whole seconds, and says when the answer was written: somewhere between the two looks.
    after = now()
    off = max(before - (there + 1000), there - after, 0) / 1000
    if off <= SKEW:
        return Finding(subject, OK, f"agrees with {timekeeper}")
    said = (
        f"{off:.0f} s off that of {timekeeper}: leases, timers and delayed messages count by it. Set it by NTP "
        f"(timedatectl set-ntp true, for example)"
    )
    return Finding(subject, FAILURE if off > WORST_SKEW else WARNING, said)


def _date(address: str) -> int:
    """Milliseconds since the epoch, as the server has them. `OSError` or `ValueError` if it does not say."""
    from email.utils import parsedate_to_datetime
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().headers["Date"]
    except HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()
    if date is None:
        message = "no Date in the answer"
        raise ValueError(message)
    return round(parsedate_to_datetime(date).timestamp() * 1000)


def _tried(use: Use, engine: FluxEngine) -> Finding | None:
    subject = _SUBJECTS[use]
    try:
        seen = use(engine)
    except FluxError as error:
        return Finding(subject, FAILURE, str(error))
    except Exception as error:  # noqa: BLE001 -- a store or a queue of the user's own may raise anything
        return Finding(subject, FAILURE, f"{type(error).__name__}: {error}")
    return None if seen is None else Finding(subject, *seen)


# --- the uses ---------------------------------------------------------------------------------------------------


def _read(engine: FluxEngine) -> tuple[str, str]:
    storage = engine.storage
    storage.header(PROBE)
    storage.tail(PROBE)
    storage.read(PROBE)
    storage.mail(PROBE)
    storage.snapshot(PROBE)
    return OK, "instances can be read"


def _write(engine: FluxEngine) -> tuple[str, str]:
    storage, now = engine.storage, engine.clock.now()
    _put_record(engine)
    storage.put_mail(PROBE, Mail("probe", "probe", now, b"{}"))
    storage.put_snapshot(PROBE, 0, b"{}")
    # Of another epoch and another record than there are: both are asked for, and neither changes anything.
    storage.nudge(PROBE, 1, now)
    storage.settle(PROBE, 1, now, None)
    return OK, "instances can be written"


def _list(engine: FluxEngine) -> tuple[str, str]:
    storage = engine.storage
    storage.list(PROBE.tenant, limit=1)
    storage.list(PROBE.tenant, PROBE.workflow, limit=1)
    storage.list(PROBE.tenant, PROBE.workflow, [COMPLETED], limit=1)
    storage.list(PROBE.tenant, None, [COMPLETED], limit=1)
    return OK, "instances can be listed, by workflow and by status"


def _due(engine: FluxEngine) -> tuple[str, str]:
    engine.storage.due(engine.clock.now(), 1)
    return OK, "what is due can be found"


def _overdue(engine: FluxEngine) -> tuple[str, str]:
    now = engine.clock.now()
    late = engine.storage.due(now - round(OVERDUE * 1000), _FEW)
    if not late:
        return OK, f"nothing has been due for more than {OVERDUE / 60:.0f} minutes"
    shown = ", ".join(f"{one.ref.workflow}/{one.ref.id} ({(now - one.due) / 60_000:.0f} min)" for one in late)
    said = (
        f"due for longer than {OVERDUE / 60:.0f} minutes: {shown}. Either no sweeper runs, or their ticks fail: look "
        f"whether its schedule is on and at its log; flux show tells of one instance, flux recover ticks what is due"
    )
    return WARNING, said


def _payloads(engine: FluxEngine) -> tuple[str, str] | None:
    payloads = _payload_store(engine)
    if payloads is None:
        return None
    digest = sha256(_PAYLOAD)
    payloads.put(PROBE, digest, _PAYLOAD)
    payloads.get(PROBE, digest)
    return OK, "large payloads can be written and read"


def _queue(engine: FluxEngine) -> tuple[str, str] | None:
    scheduler = engine.scheduler
    if scheduler is None:
        return None
    scheduler.wake(PROBE, 0)  # the worker finds no such instance, and is done with it
    return OK, "takes a message"


def _keys(engine: FluxEngine) -> tuple[str, str] | None:
    callbacks = engine.callbacks
    if callbacks is None:
        return None
    now = engine.clock.now()
    callbacks.read(callbacks.token(Ticket(*PROBE, "probe", "probe", 0, 0, now + 60_000)), now)
    return OK, "callback links can be signed and read"


def _purge(engine: FluxEngine) -> tuple[str, str]:
    """Removes what the doctor himself has left, after leaving it if need be."""
    _put_record(engine)
    engine.storage.purge(PROBE, 0)
    return OK, "instances can be deleted"


def _put_record(engine: FluxEngine) -> None:
    """What the probe is made of, unless it is there."""
    now = engine.clock.now()
    engine.storage.append(PROBE, 0, b"{}", Header(COMPLETED, now, now, 0, 0, None))


def _payload_store(engine: FluxEngine) -> PayloadStorage | None:
    layer: Any = engine.storage
    while layer is not None:
        found: PayloadStorage | None = getattr(layer, "payloads", None)
        if found is not None:
            return found
        layer = getattr(layer, "inner", None)
    return None


_SUBJECTS: Final[dict[Use, str]] = {
    _read: "store, reading",
    _write: "store, writing",
    _list: "store, list index",
    _due: "store, due index",
    _overdue: "sweeper",
    _payloads: "payloads",
    _queue: "queue",
    _keys: "callback keys",
    _purge: "store, deleting",
}

_RUNNING: Final[tuple[Use, ...]] = (_read, _write, _payloads, _queue, _keys)

USES: Final[dict[str, tuple[Use, ...]]] = {
    "api": (*_RUNNING, _list),
    "worker": _RUNNING,
    "sweeper": (_due, _overdue, _queue),
    "purge": (_list, _purge),
    "operator": (*_RUNNING, _list, _due, _overdue),
}
"""By the part that a function plays: what it has to be able to do. The operator's is that of `flux` on a laptop."""
