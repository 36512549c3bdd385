"""A finished run in the formats that other tools read: one module a format."""
