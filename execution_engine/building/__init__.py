"""What a job needs before it can run: its directory, its command line, its job script."""
