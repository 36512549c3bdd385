"""A finished run as one page and as a contact sheet."""
