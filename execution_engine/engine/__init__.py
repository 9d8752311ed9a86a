"""The monitor and its actors."""
