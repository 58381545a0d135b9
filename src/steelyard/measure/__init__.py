"""Measurement: scorecards with intervals, and paired comparisons, computed from outcomes as columns."""
