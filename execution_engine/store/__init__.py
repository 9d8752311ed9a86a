"""All access to the database: one interface, `JobStore`, and its implementations."""

from execution_engine.store.masking import masked
from execution_engine.store.opening import open_store

__all__ = ["masked", "open_store"]
