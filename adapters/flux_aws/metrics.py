"""What happens to workflows as metrics of CloudWatch, written into the log by Powertools (embedded metric format).

It must not call AWS: a metric is a line of the log, so it delays nothing and needs no permission. Powertools is
imported when the first invocation that has something to tell ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED: Final[Mapping[str, str]] = {
    "workflow:start": "WorkflowStarted",
    "workflow:complete": "WorkflowCompleted",
    "workflow:error": "WorkflowFailed",
    "workflow:rollback_complete": "WorkflowRolledBack",
    "workflow:stuck": "WorkflowStuck",
    "workflow:blocked": "WorkflowBlocked",
    "workflow:recovered": "WorkflowRecovered",
    "workflow:handover": "WorkflowHandedOver",
    "step:complete": "StepCompleted",
    "step:error": "StepFailed",
    "step:retry": "StepRetried",
    "signal:received": "SignalReceived",
}
"""By trace event: the metric that counts it. Dimensions are `service` (Powertools') and `workflow`."""
DURATION: Final = "StepDuration"
"""Milliseconds of the attempt that completed a step."""
_TIMED: Final = "step:complete"


class EmfSink:
    """A `TraceSink` that counts, and writes one line a workflow at the end of each invocation."""

    def __init__(self, namespace: str | None) -> None:
        """`namespace`: where CloudWatch shows the metrics; None: nothing is asked of it."""
        self.namespace = namespace
        self._counts: dict[str, dict[str, int]] = {}
        self._durations: dict[str, list[float]] = {}
        self.errors = 0
        """Flushes that failed; a metric never changes an outcome."""

    def emit(self, event: Mapping[str, object]) -> None:
        """Count the event."""
        kind, workflow = str(event["type"]), str(event["workflow_name"])
        name = COUNTED.get(kind)
        if name is None:
            return
        counts = self._counts.setdefault(workflow, {})
        counts[name] = counts.get(name, 0) + 1
        seconds = event.get("duration")
        if kind == _TIMED and isinstance(seconds, int | float):
            self._durations.setdefault(workflow, []).append(seconds * 1000)

    def flush(self) -> None:
        """Write what was counted since the last time; nothing if nothing was."""
        counts, self._counts = self._counts, {}
        durations, self._durations = self._durations, {}
        if not counts:
            return
        try:
            self._write(counts, durations)
        except Exception:  # noqa: BLE001 -- as for every sink
            self.errors += 1

    def _write(self, counts: Mapping[str, Mapping[str, int]], durations: Mapping[str, list[float]]) -> None:
        from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

        for workflow, of in counts.items():
            metrics = EphemeralMetrics(namespace=self.namespace)
            metrics.add_dimension(name="workflow", value=workflow)
            for name, count in of.items():
                metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
            for milliseconds in durations.get(workflow, ()):
                metrics.add_metric(name=DURATION, unit=MetricUnit.Milliseconds, value=milliseconds)
            metrics.flush_metrics()
