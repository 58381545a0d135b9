"""Generators of the study data that ships with the package; not part of the package itself."""
