"""Flux's command line: `flux run` and what comes beside it. Importing this package loads nothing else."""
