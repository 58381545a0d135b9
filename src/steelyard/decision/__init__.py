"""The decision: gates, the classic mistakes, and the verdict with what would change it."""
