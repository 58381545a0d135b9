"""The same work done by other libraries, each in a virtual environment of its own."""
