"""A function app as a user writes it; the tests put it beside a host.json and index it."""

import azure.functions as func

from flux_azure import blueprint
from tests.azure.workflows import approval, link, long, naps, order, stubborn

app = func.FunctionApp()
app.register_functions(blueprint(approval, link, long, naps, order, stubborn))
