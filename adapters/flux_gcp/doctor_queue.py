"""What Flux counts on of a queue of Cloud Tasks: that it runs, tries again, and is answered. It must not use it.

Cloud Tasks has no dead-letter queue: a task that is given up is dropped, and its instance is left to the sweeper.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final

from flux_core.doctor import FAILURE, OK, OVERDUE, UNKNOWN, WARNING, Finding
from flux_core.machine import MOST_DEATHS
from flux_gcp.doctor_deliveries import refusal
from flux_gcp.doctor_services import TASKS, Absent, Refused
from flux_gcp.settings import QUEUE, WORKER_URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from flux_gcp.doctor_services import Services

_UNLIMITED: Final = -1
_MANY: Final = 10_000
_LONGEST_PAUSE: Final = 60.0
"""Seconds: a sweep would come before the second try."""
_SOME: Final = 100
"""Tasks that are looked at."""


def of_queue(queue: str, account: str | None, services: Services, *, sweeper: bool) -> Iterator[Finding]:
    """Whether it delivers, how often it tries, and what the worker has answered.

    `account`: whose identity tasks have. `sweeper`: there is one, which finds what is dropped.
    """
    try:
        told = services.ask(TASKS, f"v2/{queue}", "cloudtasks.queues.get")
    except Absent:
        yield Finding("delivery", FAILURE, f"there is no {queue}: look at {QUEUE}, or deploy it")
        return
    except Refused as error:
        yield Finding("delivery", UNKNOWN, str(error))
        return
    _, project, _, location, _, name = queue.split("/")
    command = f"gcloud tasks queues %s {name} --location={location} --project={project}"
    yield _delivery(told, command)
    yield _redelivery(told.get("retryConfig", {}), command % "update", WARNING if sweeper else FAILURE)
    yield _answers(queue, account, services)


def _delivery(told: Mapping[str, Any], command: str) -> Finding:
    subject, state = "delivery", told.get("state")
    rates = told.get("rateLimits", {})
    if state != "RUNNING":
        return Finding(subject, FAILURE, f"it is {state}, so nothing is delivered: {command % 'resume'}")
    if not (rates.get("maxDispatchesPerSecond", 0) > 0 and rates.get("maxConcurrentDispatches", 0) > 0):
        return Finding(
            subject, FAILURE,
            f"it may deliver nothing: {command % 'update'} --max-dispatches-per-second=500 "
            f"--max-concurrent-dispatches=160",
        )  # fmt: skip
    return Finding(
        subject, OK,
        f"runs, with up to {rates['maxConcurrentDispatches']} tasks at once and "
        f"{rates['maxDispatchesPerSecond']:g} a second",
    )  # fmt: skip


def _redelivery(retry: Mapping[str, Any], update: str, lost: str) -> Finding:
    subject = "redelivery"
    tries = int(retry.get("maxAttempts", 0))
    patience, first = _seconds(retry, "maxRetryDuration"), _seconds(retry, "minBackoff")
    remedy = f"{update} --max-attempts=30 --max-retry-duration=0s --min-backoff=1s --max-backoff=300s --max-doublings=8"
    dropped = "the sweeper has to find its instance" if lost == WARNING else "no sweeper would find its instance"
    # Both limits have to be reached before a task is dropped; no time at all is no limit.
    if tries != _UNLIMITED and tries <= MOST_DEATHS and not patience:
        said = (
            f"a task is dropped after {tries} tries, before the engine calls an instance stuck (after {MOST_DEATHS} "
            f"deaths); {dropped}"
        )
        return Finding(subject, lost, f"{said}. Change it: {remedy}")
    span = max(sum(islice(_pauses(retry), max(min(tries, _MANY) - 1, 0))), patience)
    if span < OVERDUE and (patience or tries != _UNLIMITED):
        said = (
            f"a task is dropped {span:.0f} s after its first try, while an outage of {OVERDUE / 60:.0f} minutes still "
            f"lasts; {dropped}"
        )
        return Finding(subject, lost, f"{said}. Change it: {remedy}")
    if first > _LONGEST_PAUSE:
        return Finding(
            subject, WARNING, f"a task that failed waits for {first:.0f} s before it comes again. Change it: {remedy}"
        )
    return Finding(subject, OK, f"a task is tried {'without end' if tries == _UNLIMITED else f'up to {tries} times'}")


def _pauses(retry: Mapping[str, Any]) -> Iterator[float]:
    """Seconds between tries, as the reference of RetryConfig tells it: doubled some times, then longer by the same."""
    first, longest = _seconds(retry, "minBackoff"), _seconds(retry, "maxBackoff")
    doublings = int(retry.get("maxDoublings", 0))
    pause, step = first, 0.0
    while True:
        yield min(pause, longest)
        if doublings:
            doublings -= 1
            pause *= 2
        else:
            step = step or pause
            pause += step


def _seconds(retry: Mapping[str, Any], name: str) -> float:
    return float(str(retry.get(name, "0s")).removesuffix("s"))


def _answers(queue: str, account: str | None, services: Services) -> Finding:
    """What tasks that are still there were answered: one that went well is gone."""
    subject = "tasks"
    try:
        told = services.ask(TASKS, f"v2/{queue}/tasks", "cloudtasks.tasks.list", pageSize=str(_SOME))
    except Refused as error:
        return Finding(subject, UNKNOWN, str(error))
    tasks = told.get("tasks", [])
    tried = [task["lastAttempt"] for task in tasks if "responseTime" in task.get("lastAttempt", {})]
    answers = (refusal(one.get("responseStatus", {}), account, WORKER_URL) for one in tried)
    seen = Counter(answer for answer in answers if answer is not None)
    number = f"{len(tasks)} tasks" + (" that were looked at" if told.get("nextPageToken") else " that wait")
    if not seen:
        return Finding(subject, OK, f"none of {number} has failed" if tasks else "none waits")
    (worst, count) = max(seen.items(), key=lambda each: (each[0].standing == FAILURE, each[1]))
    return Finding(subject, worst.standing, f"{count} of {number} failed: {worst.said}")
