"""`SqsScheduler`: an instance is woken by a message in an SQS queue. It must not decide whom to wake, nor when.

Lambda counts the hops of a chain function - queue - function and, unless recursive-loop detection of the function is
set to Allow, drops the message of about the sixteenth. So a chain ends before that, and the sweeper, whom a clock
invokes, begins a new one: https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from flux_aws import settings
from flux_aws.clients import Client
from flux_aws.faults import CREDENTIALS, DENIED, names_of
from flux_core.errors import DefinitionError, SchedulerUnavailable
from flux_core.invocation import wake_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flux_aws.clients import Sessions
    from flux_core.ports import InstanceRef

HORIZON: Final = 900.0
"""Seconds: the longest delay of a message in SQS."""
HOP_BUDGET: Final = 12
"""Hops of a chain before the sweeper has to begin a new one."""
_MISSING: Final = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue", "ResourceNotFoundException"}
)


_HOPS: Final[ContextVar[int]] = ContextVar("flux_hops", default=0)


@contextmanager
def after(hops: int) -> Iterator[None]:
    """Inside, the invocation is one that `hops` messages have led to."""
    token = _HOPS.set(hops)
    try:
        yield
    finally:
        _HOPS.reset(token)


class SqsScheduler:
    """A `Scheduler` over the standard SQS queue at `queue_url`, whose consumer is the function itself.

    `hop_budget`: how long a chain of invocations that enqueue each other may become; None if nothing limits it.
    `region` and `endpoint` default to AWS's own settings. Raises `DefinitionError` for a queue that cannot work;
    imports boto3 and asks AWS only when first used. Threads may share it.
    """

    horizon = HORIZON

    def __init__(
        self,
        queue_url: str,
        *,
        hop_budget: int | None = HOP_BUDGET,
        region: str | None = None,
        endpoint: str | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        """Check the arguments; nothing is opened."""
        if "/" not in queue_url:
            raise DefinitionError(
                f"SqsScheduler needs the URL of a queue (aws sqs get-queue-url --queue-name ...), not {queue_url!r}."
            )
        if queue_url.endswith(".fifo"):
            raise DefinitionError(
                f"SqsScheduler cannot use the FIFO queue {queue_url}: its messages cannot be delayed one by one. Give "
                f"it a standard queue; a FIFO queue may still be one of the function's sources."
            )
        if hop_budget is not None and hop_budget < 1:
            raise DefinitionError(f"hop_budget must be a whole number from 1 on, or None; got {hop_budget!r}.")
        self.queue_url = queue_url
        self.hop_budget = hop_budget
        self._client = Client("sqs", sessions, region, endpoint)

    def wake(self, ref: InstanceRef, delay: float) -> None:
        """Have the instance ticked in `delay` seconds (a fraction counts as a whole one), at least once.

        At the end of the hop budget nothing is sent: the due index has the instance, and the sweeper will bring it.
        Raises `SchedulerUnavailable` if SQS did not take the message.
        """
        hops = _HOPS.get() + 1
        if self.hop_budget is not None and hops > self.hop_budget:
            return
        seconds = min(-int(-delay // 1), int(HORIZON))
        self._client.call(
            "send_message",
            self._fault,
            QueueUrl=self.queue_url,
            MessageBody=wake_message(ref, hops),
            DelaySeconds=max(seconds, 0),
        )

    @property
    def client(self) -> Any:
        """boto3's client, made if need be: to hook into (tracing, metering)."""
        return self._client.client

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _fault(self, error: Exception) -> SchedulerUnavailable:
        names, where = names_of(error), f"The queue of wake-ups ({self.queue_url})"
        if names & _MISSING:
            advice = f"does not exist. Check {settings.QUEUE_URL} and {settings.REGION} against what was deployed."
        elif names & CREDENTIALS:
            advice = (
                "cannot be asked: AWS has no valid credentials from here. A function takes them from its role; on your "
                "machine run `aws configure` or `aws sso login`, or set AWS_PROFILE."
            )
        elif names & DENIED:
            advice = "refused the message: the function's role lacks sqs:SendMessage on it."
        elif "NoRegionError" in names:
            advice = f"cannot be found: no region is set. Set {settings.REGION}."
        else:
            advice = "did not take the message. Nothing is lost: the due index has the instance."
        return SchedulerUnavailable(f"{where} {advice} (AWS: {error})")
