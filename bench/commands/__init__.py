"""The commands that measure, one module for each kind of suite; ``bench/cli.py`` puts them together."""
