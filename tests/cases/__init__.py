"""Tests of reading, checking and dividing cases."""
