"""Tests of the bench suite; nothing here depends on how fast the machine is."""
