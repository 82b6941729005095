"""The composition root: which store, which services, which lease.

`flux run --app examples.order_fulfilment.app:engine --id-field order_id examples/order_fulfilment/orders.jsonl`

Everything is kept in one folder: FLUX_ORDERS_HOME, or `.flux/demo` at the top of the repository.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from examples.order_fulfilment.journal import Journal
from examples.order_fulfilment.payment import Delays, PaymentProvider
from examples.order_fulfilment.shipping import Shipping
from examples.order_fulfilment.workflows import Fulfilment, order_workflow
from flux_core import FluxEngine
from flux_local import SQLiteStorage

ROOT: Final = Path(__file__).resolve().parents[2]
HOME: Final = ROOT / ".flux" / "demo"
HOME_VARIABLE: Final = "FLUX_ORDERS_HOME"

LEASE: Final = 2.0
"""Seconds that the orders of a dead worker stay blocked. Short, so that the demo need not wait; usual is 120."""


def home() -> Path:
    """The folder of the store and the journal."""
    return Path(os.environ.get(HOME_VARIABLE) or HOME)


def journal_path() -> Path:
    """Where the outside world keeps its own account."""
    return home() / "journal.jsonl"


def engine() -> FluxEngine:
    """The order workflow over SQLite."""
    journal, delays = Journal(journal_path()), Delays()
    shop = Fulfilment(PaymentProvider(journal, delays), Shipping(journal, delays))
    return FluxEngine(SQLiteStorage(home() / "orders.db"), workflows=[order_workflow(shop)], lease=LEASE)
