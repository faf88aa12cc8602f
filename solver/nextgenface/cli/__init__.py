"""The commands; each module is one, with `main(arguments=None) -> exit code`."""
