"""The keeper: the small long-lived process that is the parent of the jobs of one Local system.

`client` is the side of the actors; `server` (the loop), `kept_jobs` (all jobs) and `kept_job` (one job) run in the keeper;
`processes` (/proc) and `records` (the files in a job's directory) serve both.  The keeper's modules import only each other and
the light parts of the standard library, so that it stays small.
"""
