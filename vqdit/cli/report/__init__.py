"""Reports of commands: pages, charts and pictures."""
