"""The engine of this project: its workflows over a file. `flux --app app:engine` finds it."""

from __future__ import annotations

from workflows import order

from flux_core import FluxEngine
from flux_local import SQLiteStorage

engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[order])
