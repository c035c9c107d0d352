"""The `qwenlong-trl` command line, one module per command."""
