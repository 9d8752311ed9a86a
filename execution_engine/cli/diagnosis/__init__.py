"""What `execd doctor` looks at: each module the checks of one thing, each check a short function that gives findings."""
