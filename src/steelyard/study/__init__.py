"""The study: study.yaml and the functions behind every command; the one place where things are wired."""
