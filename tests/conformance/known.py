"""The known classes of deliberate differences, as small rewrites: from what the original did to what we do instead.

Each looks at one operation (`View`) and, where its rule applies, changes the expectation `view.theirs` as the rule
says. A difference that the rewrites do not account for is not deliberate. A rewrite returns True if from here on the
instance has taken another course, so that what later operations show is about another history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.conformance.rules_of_failures import (
    builds_differ,
    compensations,
    failure_is_told,
)
from tests.conformance.rules_of_groups import (
    failed_groups,
    retries_in_groups,
    waits_in_groups,
    write_conflicts,
)
from tests.conformance.rules_of_state import (
    created_at,
    hooks,
    no_locks,
    no_optimizer,
    no_writing,
    one_owner,
    refused_definitions,
    store_failures,
    stored_status,
    unknown_ids,
)
from tests.conformance.rules_of_steps import (
    conditions,
    failed_attempts,
    kept_outputs,
    late_handlers,
    unknown_outcome,
)
from tests.conformance.rules_of_verbs import (
    changed_definition,
    kept_commits,
    kept_signals,
    other_workflow,
    refused_verbs,
    restored_data,
    resume_ticks,
    retry_after_rollback,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.view import View


class Known(NamedTuple):
    """A class of deliberate differences, the page that gives the reason, and the rewrite that recognises it."""

    name: str
    page: str
    rewrite: Callable[[View], bool]


_PAGE = "docs/decisions/behaviour-{}.md"
CLASSES: tuple[Known, ...] = tuple(
    Known(name, _PAGE.format(page), rewrite)
    for name, page, rewrite in (
        ("refused-definitions", "refused-definitions", refused_definitions),
        ("no-writing", "state-is-a-log", no_writing),
        ("store-failures", "state-is-a-log", store_failures),
        ("hooks", "hooks-change-nothing", hooks),
        ("created-at", "state-is-a-log", created_at),
        ("no-locks", "what-takes-their-place", no_locks),
        ("no-optimizer", "what-takes-their-place", no_optimizer),
        ("unknown-ids", "an-instance-is-named", unknown_ids),
        ("other-workflow", "an-instance-is-named", other_workflow),
        ("changed-definition", "an-instance-is-named", changed_definition),
        ("kept-signals", "signals-are-kept", kept_signals),
        ("one-owner", "one-owner", one_owner),
        ("refused-verbs", "retry-and-resume", refused_verbs),
        ("resume-ticks", "retry-and-resume", resume_ticks),
        ("retries-in-groups", "groups", retries_in_groups),
        ("retry-after-rollback", "retry-and-resume", retry_after_rollback),
        ("kept-commits", "retry-and-resume", kept_commits),
        ("unknown-outcome", "time-limits", unknown_outcome),
        ("late-handlers", "time-limits", late_handlers),
        ("conditions", "conditions", conditions),
        ("waits-in-groups", "groups", waits_in_groups),
        ("write-conflicts", "groups", write_conflicts),
        ("failed-groups", "groups", failed_groups),
        ("builds-differ", "where-the-builds-differ", builds_differ),
        ("stored-status", "state-is-a-log", stored_status),
        ("compensations", "compensations-go-on", compensations),
        ("failure-is-told", "trace-of-a-failure", failure_is_told),
        ("kept-outputs", "outputs-are-kept", kept_outputs),
        ("failed-attempts", "failed-attempts-leave-nothing", failed_attempts),
        ("restored-data", "retry-and-resume", restored_data),
    )
)
"""In the order in which they are applied: each sees what those before it have made of the expectation."""
PAGES = {known.name: known.page for known in CLASSES}
