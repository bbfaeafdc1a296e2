"""What commands draw and write: pages, charts, pictures."""
