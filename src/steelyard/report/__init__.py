"""Reports: terminal, HTML, JSON and Markdown, rebuilt from the journal alone."""
