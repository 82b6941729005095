"""The function app. Settings come from the environment; host.json goes with them."""

from __future__ import annotations

import azure.functions as func
from workflows import order

from flux_azure import blueprint

app = func.FunctionApp()
app.register_functions(blueprint(order))
