"""Which execution system takes a job: rules, routes and the dispatcher."""
