"""What every function of the stack runs. Settings come from the environment, which the stack writes."""

from __future__ import annotations

from workflows import order

from flux_aws import lambda_handler

handler = lambda_handler(order)
