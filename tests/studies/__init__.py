"""Tests of the bundled study data."""
