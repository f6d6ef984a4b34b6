"""effops against its peers, interleaved and verified. ``python -m bench --help`` says how to run it."""
