"""Retrieval: the nearest labelled examples of a case."""
