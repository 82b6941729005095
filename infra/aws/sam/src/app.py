"""What the functions run: replace `greet` by your workflows. All functions of the stack have this handler."""

from __future__ import annotations

from typing import Any

from flux_aws import lambda_handler
from flux_core import create_workflow, wait

greet = (
    create_workflow("greet")
    .step("ask", lambda ctx: wait("name", timeout=86400))
    .step("greet", lambda ctx: f"hello {ctx.prev}")
)

handler: Any = lambda_handler(greet)  # settings come from the environment, which template.yaml writes
