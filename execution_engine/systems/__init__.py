"""The execution systems: where jobs run."""
