"""What the outcomes say about why it fails and what would help: pure computation, no model and no clock."""
