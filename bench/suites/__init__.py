"""The suites. A suite makes the tasks that :mod:`bench.runner` measures."""
