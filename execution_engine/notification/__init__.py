"""Telling the owner that a job ended."""
