"""All access to the database: one interface, `JobStore`, and its implementations."""
