"""The pytest plugin of Flux: the fixture `flux_test` and the option `--flux-store` (docs/testing.md)."""
