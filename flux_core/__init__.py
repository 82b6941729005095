"""Flux: durable workflows on any cloud's functions."""
