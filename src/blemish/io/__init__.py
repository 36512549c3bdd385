"""Files, work in threads, provenance: what every room needs and nothing about images."""
