"""Measurement: six metrics, intervals, paired comparisons."""
