"""The `handbook` study: what writes the shipped documents and questions. Not part of the package."""
