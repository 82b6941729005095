"""The behaviour suite that every store must pass; shipped, so that a store of someone else can be held to it too.

    from flux_core.testing import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self):
            return MyStore()

Run it with pytest. A durable store also overrides `reopen(store)`: close, open anew, return the new one. A store behind
a network may lower `writers`, `slots`, `long_log`, `churn` and `crowd`, and name the `index_lag` of its secondary
indexes in seconds. The promises are those of `flux_core.ports.WorkflowStorage`. Each case fails with a sentence that
says what the store did wrong. This module must not know any store.
"""

from __future__ import annotations

from flux_core.testing.store_due_cases import DueCases
from flux_core.testing.store_life_cases import LifeCases
from flux_core.testing.store_list_cases import ListCases
from flux_core.testing.store_log_cases import LogCases
from flux_core.testing.store_mail_cases import MailCases


class StoreContract(LogCases, MailCases, DueCases, ListCases, LifeCases):
    """All cases. Inherit, override `make_store`, and name the class so that pytest collects it (`Test...`)."""
