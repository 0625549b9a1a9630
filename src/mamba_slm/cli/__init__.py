"""The command line: arguments in, calls out; one file per command, imported only when that command runs."""
