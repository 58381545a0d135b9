"""The task: what is asked, the output schema, and what counts as a success."""
