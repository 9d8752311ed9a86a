"""Measures of execd, and of its peers beside it.  README.rst says what each is; `python -m benchmarks --help` how it is run."""
