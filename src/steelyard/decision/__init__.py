"""The decision: gates and verdict."""
