"""The subcommands of `sparkd`, one module each or a few that belong together. Each is imported only when it is run."""
