"""`blemish methods`: what there is to know of each method."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["methods"]


def methods(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the methods: what each needs, what its authors train it on, the paper, and which weights there are.

    `docs/` has a page for each: the paper beside the code, with every difference as an option.
    """
    from blemish.io.codec import to_dict
    from blemish.methods.facts import method_facts

    found = method_facts()
    if as_json:
        typer.echo(json.dumps([to_dict(method) for method in found], indent=2))
        return
    for method in found:
        typer.echo(f"{method.name}: {method.title or 'a plug-in'}" + (f"; {method.paper}" if method.paper else ""))
        numbers = f"{method.numbers:,} numbers" if method.numbers else ""
        trained = "; ".join(part for part in (numbers, method.trained_on) if part) or "nothing"
        if method.title:
            typer.echo(f"    needs:   {method.needs}")
            typer.echo(f"    trained: {trained}")
            typer.echo(f"    weights: {method.weights}")
            typer.echo(f"    page:    docs/{method.docs}")
