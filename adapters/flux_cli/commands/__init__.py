"""One command a module. A new one is written beside the others and named in `flux_cli.program`."""
