"""The functions: `handler` runs the workflows, `callbacks` takes callback links, `rotation` rotates their keys."""

from __future__ import annotations

from workflows import order

from flux_gcp import callback_function, http_function, rotation_function

handler = http_function(order)
callbacks = callback_function(order)
rotation = rotation_function()
