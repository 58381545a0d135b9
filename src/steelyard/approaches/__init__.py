"""Approaches: prompt, workflow, retrieval, tuning. Prepared once, then asked per case."""
