"""Units of images through Ray Data: read in tasks, scored by actors, and back as tables; no more on the way than memory holds.

An actor or a machine that is gone is replaced by Ray, and what it had is done again. An image that ends the process scoring it
costs that process alone (`ScoringActor`). What fails in the code itself gets one more round.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from blemish.errors import ModelError
from blemish.images import Learned
from blemish.results import Thresholds
from blemish.runs.work import WorkOrder
from blemish.scale.cluster import Cluster, ray_modules
from blemish.scale.stages import Loading, ScoringActor, Unit, learn_unit, load_unit

__all__ = ["learn_all", "score_all"]

ACTOR_CPUS, READER_CPUS = 0.8, 0.2  # of a core: an actor for each core, and room for a task that reads for it
ROUNDS = 2  # of what did not come back: Ray itself goes on where an actor or a machine is gone
BLOCK_BYTES = 2**24  # about what goes from one stage to the next at once


def score_all(
    units: Sequence[Unit],
    *,
    loading: Loading,
    order: WorkOrder,
    thresholds: Thresholds,
    cluster: Cluster,
    on_round: Callable[[str], None],
) -> Iterator[Any]:
    """The rows of all units, as Arrow tables in the order in which they are done; a lost unit is missing.

    Args:
        units: What is to be scored.
        loading: How images are read.
        order: What scores them.
        thresholds: Of the records of images with which processes end.
        cluster: What there is to work with.
        on_round: Is told why something is done again.

    Raises:
        ModelError: Nothing can be scored, for a reason that holds for all images.
    """
    missing = {(unit.shard, row): unit for unit in units for row in range(unit.first, unit.last)}
    left: list[Unit] = list(units)
    for number in range(ROUNDS):
        if not left:
            return
        if number:
            on_round(
                f"{len(missing)} images did not come back, and are inspected again ({number + 1} of {ROUNDS} rounds)"
            )
        for table in _one_round(left, loading=loading, order=order, thresholds=thresholds, cluster=cluster):
            refused = table["refused"][0].as_py() if len(table) else None
            if refused is not None:
                raise ModelError(refused)
            shards, rows = table["shard"].to_pylist(), table["row"].to_pylist()
            new = [missing.pop((shard, row), None) is not None for shard, row in zip(shards, rows, strict=True)]
            yield table if all(new) else table.filter(new)
        left = list(dict.fromkeys(missing.values()))


def learn_all(units: Sequence[Unit], *, loading: Loading) -> Learned | None:
    """What all images say of the value range; None where none has more than 8 bits."""
    _, data = ray_modules()
    _settings(data)

    def learn(batch: dict[str, Any]) -> dict[str, Any]:
        found = [learn_unit(loading, unit) for unit in _units(batch)]
        return {"learned": [_as_text(each) for each in found]}

    learned = Learned()
    dataset = _dataset(data, units).map_batches(learn, batch_size=1, num_cpus=READER_CPUS)
    for row in dataset.iter_rows():
        learned = learned.merged(_from_text(row["learned"]))
    return None if learned == Learned() else learned


def _one_round(
    units: Sequence[Unit], *, loading: Loading, order: WorkOrder, thresholds: Thresholds, cluster: Cluster
) -> Iterator[Any]:
    """Each unit through both stages, once as far as this knows; what fails is left out."""
    _, data = ray_modules()
    _settings(data)
    import pyarrow

    def load(batch: dict[str, Any]) -> Iterator[Any]:
        schema = pyarrow.schema(
            [("shard", pyarrow.int64()), ("first", pyarrow.int64()), ("payload", pyarrow.large_binary())]
        )
        for unit in _units(batch):
            for row in load_unit(loading, unit):
                yield pyarrow.Table.from_pylist([row], schema=schema)

    class Scoring:
        """Ray's side of `ScoringActor`."""

        def __init__(self) -> None:
            self.actor = ScoringActor(order, thresholds=thresholds, where=socket.gethostname())

        def __call__(self, batch: Any) -> Iterator[Any]:
            for number in range(len(batch)):
                payload = batch["payload"][number].as_buffer()
                yield self.actor.rows(
                    shard=batch["shard"][number].as_py(), first=batch["first"][number].as_py(), payload=payload
                )

    on_gpu = order.config.get("model", {}).get("device", "cpu") != "cpu"
    most = max(1, cluster.gpus if on_gpu else cluster.cpus)
    loaded = _dataset(data, units).map_batches(load, batch_size=1, num_cpus=READER_CPUS)
    scored = loaded.map_batches(
        Scoring,
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=min(most, len(units)), max_tasks_in_flight_per_actor=2),
        num_cpus=ACTOR_CPUS,
        num_gpus=1 if on_gpu else None,
    )
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _dataset(data: Any, units: Iterable[Unit]) -> Any:
    rows = [{"shard": unit.shard, "first": unit.first, "last": unit.last} for unit in units]
    return data.from_items(rows, override_num_blocks=len(rows))


def _units(batch: dict[str, Any]) -> list[Unit]:
    columns = (batch["shard"], batch["first"], batch["last"])
    return [Unit(int(shard), int(first), int(last)) for shard, first, last in zip(*columns, strict=True)]


def _settings(data: Any) -> None:
    """How Ray Data works here: small blocks, quietly, and what fails is ours to do again."""
    context = data.DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    context.target_min_block_size = 0
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _as_text(learned: Learned) -> str:
    import json

    return json.dumps([learned.spread, learned.bits])


def _from_text(text: str) -> Learned:
    import json

    spread, bits = json.loads(text)
    return Learned(
        None if spread is None else (spread[0], spread[1]), tuple((declared, depth) for declared, depth in bits)
    )
