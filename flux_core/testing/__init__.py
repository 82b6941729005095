"""What a project needs to test its workflows, and a store author to prove a store. Nothing here runs in production."""

from flux_core.testing.store_contract import StoreContract

__all__ = ["StoreContract"]
