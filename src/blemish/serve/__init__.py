"""A service that runs all day: HTTP, a queue before the model, a history, a page to review on, sources and outputs of a line.

`service.py` puts the parts together. What each part must not know: `inference/` no database and no HTTP, `database/` and the
modules beside it no HTTP, `http/` not how anything is stored.
"""
