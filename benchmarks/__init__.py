"""How fast and how small Steelyard is, measured against its limits and against peers: `python -m benchmarks`."""
