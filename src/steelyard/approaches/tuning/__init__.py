"""Tuning: weights learned from the train split."""
