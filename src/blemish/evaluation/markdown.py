"""The tables of an evaluation as Markdown, for a page in a repository: no picture, no path of a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from blemish.evaluation.outcome import Evaluation, Group
from blemish.evaluation.tables import Provenance, Table, overview, parts_of, published_table, types_table
from blemish.io.atomic import write_text

__all__ = ["public", "write_markdown"]

ABSOLUTE = re.compile(r"(?<![\w.…/])(?:[A-Za-z]:)?[\\/](?:[^\s\\/;:,'\"]+[\\/])*(?=[^\s\\/;:,'\"])")


def write_markdown(
    path: Path,
    groups: Sequence[Group],
    provenance: Provenance,
    *,
    title: str = "Benchmarks",
    first: Sequence[Table] = (),
    intro: str = "",
) -> None:
    """Puts the page at `path`, with the command that made it; paths in it are cut down to their last part."""
    parts = [f"# {title}", *([intro] if intro else []), *_provenance(provenance)]
    parts += [block for table in first for block in _table(table)]
    parts += _table(overview(groups))
    for group in groups:
        for one in group.members:
            parts += _section(one)
    write_text(path, "\n\n".join(parts) + "\n")


def public(text: str) -> str:
    """The text with every absolute path cut down to its last part."""
    return ABSOLUTE.sub("…/", text)


def _provenance(provenance: Provenance) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    yield f"Made by this command, and not by hand:\n\n```\n{public(provenance.command)}\n```"
    yield (
        f"{versions}; {provenance.written[:10]}. In percent; in brackets 95 % bootstrap intervals over images, ± the standard "
        "deviation over checkpoints. docs/metrics.md says what each metric means."
    )
    if provenance.missing:
        yield "Not found:\n\n" + "\n".join(f"* {public(line)}" for line in provenance.missing)


def _section(one: Evaluation) -> Iterator[str]:
    data, model, settings = one.data, one.model, one.settings
    prompts = f", prompts {Path(str(model['prompts'])).name}" if model["prompts"] else ""
    yield f"## {data['name']}: {model['method']} on {model['backbone']}{prompts}"
    size = f"{model['input_px']} px" if settings["size"] == "model" else "the images' own size"
    yield (
        f"{data['normal']} normal and {data['anomalous']} anomalous images ({data['variant'] or 'as it lies there'}; split "
        f"{data['split']}). Pixels at {size}. File list {data['list_digest']}, content {data['content_digest']}; backbone "
        f"{model['backbone_fingerprint']} at {model['input_px']} px, method {model['fingerprint']}."
    )
    if one.notes:
        yield "\n".join(f"* {public(note)}" for note in one.notes)
    for table in parts_of(one):
        yield from _table(table)
    if one.pixel_types is not None:
        yield from _table(types_table(one.pixel_types, "types of pixels, macro over normal and every type"))
    if one.image_types is not None:
        yield from _table(types_table(one.image_types, "types of anomalous images (this measure is ours)"))
    if one.published:
        yield from _table(published_table(one.published, measured=len(one.report.products)))


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.title[:1].upper()}{table.title[1:]}**"
    rule = ["---" if place < table.words else "---:" for place in range(len(table.header))]
    lines = [table.header, rule, *table.rows]
    yield "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
    if table.notes:
        yield "\n".join(f"* {public(note)}" for note in table.notes)
