"""Inspection, evaluation and training spread over many processes and machines by Ray (the extra `ray`)."""

from __future__ import annotations

__all__: list[str] = []
