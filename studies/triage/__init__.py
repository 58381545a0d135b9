"""The `triage` study: support tickets of one fictional company, written by hand and put together by a seeded generator."""
