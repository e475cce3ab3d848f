"""The command line: the only package that may import all others, and the only one that reads clocks."""
