"""The functions: `handler` runs the workflows, `callbacks` takes callback links. Settings come from the environment."""

from __future__ import annotations

from workflows import order

from flux_gcp import callback_function, http_function

handler = http_function(order)
callbacks = callback_function(order)
