"""`python -m flux_cli` is `flux`, for environments whose script folder is not on PATH."""

from __future__ import annotations

from flux_cli.main import run

if __name__ == "__main__":
    run()
