"""What a job is: its document, its status, how it ended."""
