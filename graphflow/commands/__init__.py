"""The commands of `graphflow`, one module each: `configure(parser)` and `run(options) -> exit code`."""
