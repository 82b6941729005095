"""Whether a host.json fits the protocol: redelivery, pauses, threads, and the platform's limit on an invocation.

The numbers that are missing are Azure's own. It must not read a file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flux_azure.host_json import SPARE, host_json
from flux_core.doctor import FAILURE, OK, UNKNOWN, WARNING, Finding
from flux_core.machine import MOST_DEATHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flux_core.hosting import HostSettings

THREADS: Final = "PYTHON_THREADPOOL_THREAD_COUNT"
_USUAL_THREADS: Final = 5
"""Of Python's pool on one core, where that setting is absent."""
_USUAL_TRIES: Final = 5
_USUAL_BATCH: Final = 16
_USUAL_LIMIT: Final = 1800.0
"""Seconds on Flex Consumption."""
_WRITE: Final = "write it as flux_azure.host_json() gives it"


class _Queues(NamedTuple):
    tries: int
    pause: float
    """Seconds."""
    at_a_time: int


def of_host_json(text: str, settings: HostSettings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with a host.json of that `text`."""
    subject = "host.json"
    try:
        tree = json.loads(text)
    except ValueError as error:
        yield Finding(subject, UNKNOWN, f"it is no plain JSON ({error}), so it was not looked at")
        return
    try:
        queues, limit = _queues(tree), _limit(tree.get("functionTimeout"))
    except (ValueError, TypeError, AttributeError) as error:
        yield Finding(subject, FAILURE, f"it is not what Azure expects ({error}): {_WRITE}")
        return
    found = [*_of_queues(queues, environment), *_of_limit(limit, settings)]
    if not found:
        found = [Finding(subject, OK, f"a message is tried {queues.tries} times, {queues.at_a_time} at once")]
    yield from found


def _of_queues(queues: _Queues, environment: Mapping[str, str]) -> Iterator[Finding]:
    usual = host_json()["extensions"]["queues"]
    if queues.tries <= MOST_DEATHS:
        yield Finding(
            "redelivery", FAILURE,
            f"host.json gives a message up after {queues.tries} tries, before the engine calls an instance stuck "
            f"(after {MOST_DEATHS} deaths): set maxDequeueCount to {usual['maxDequeueCount']}",
        )  # fmt: skip
    if queues.pause <= 0:
        yield Finding(
            "redelivery", WARNING,
            f"by host.json a message that failed comes again at once, so all its tries are over within seconds: set "
            f"visibilityTimeout to {usual['visibilityTimeout']}",
        )  # fmt: skip
    threads = environment.get(THREADS, "").strip()
    room = int(threads) if threads.isdigit() else _USUAL_THREADS
    if queues.at_a_time > room:
        yield Finding(
            "threads", WARNING,
            f"by host.json up to {queues.at_a_time} messages are taken at once, and there are {room} threads, so some "
            f"wait while their time runs: set batchSize to {usual['batchSize']} and newBatchThreshold to "
            f"{usual['newBatchThreshold']}, or {THREADS} to {queues.at_a_time}",
        )  # fmt: skip


def _of_limit(limit: float, settings: HostSettings) -> Iterator[Finding]:
    subject, budget = "time-out", settings.budget or 0.0
    shown = "no limit of an invocation" if limit == float("inf") else f"a functionTimeout of {limit:.0f} s"
    if limit > settings.longest_invocation:
        yield Finding(
            subject, FAILURE,
            f"host.json has {shown}, but FLUX_LONGEST_INVOCATION says {settings.longest_invocation:.0f} s: deleting "
            f"could meet an invocation that still runs. Set functionTimeout to {_span(budget + SPARE)}",
        )  # fmt: skip
    elif limit < budget + SPARE:
        yield Finding(
            subject, FAILURE if limit <= budget else WARNING,
            f"host.json has {shown}, and an invocation takes up to {budget:.0f} s (FLUX_BUDGET) and may wait for a "
            f"thread first: where the platform ends it, its worker dies with all that it runs. Set functionTimeout to "
            f"{_span(budget + SPARE)}",
        )  # fmt: skip


def _queues(tree: Mapping[str, Any]) -> _Queues:
    given = tree.get("extensions", {}).get("queues", {})
    batch = int(given.get("batchSize", _USUAL_BATCH))
    more = int(given.get("newBatchThreshold", batch // 2))
    return _Queues(
        int(given.get("maxDequeueCount", _USUAL_TRIES)), _seconds(given.get("visibilityTimeout", "0")), batch + more
    )


def _limit(given: str | None) -> float:
    if given is None:
        return _USUAL_LIMIT
    return float("inf") if given.startswith("-") else _seconds(given)


def _seconds(span: str) -> float:
    """Of a .NET time span: days, hours:minutes:seconds.fraction."""
    days, dot, rest = span.partition(".")
    if not dot or ":" in days:
        days, rest = "0", span
    parts = rest.split(":")
    if len(parts) == 1:  # days alone
        return float(parts[0]) * 86400
    hours, minutes, seconds = (*parts, "0")[:3]
    return int(days) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _span(seconds: float) -> str:
    return f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{int(seconds) % 60:02}"
