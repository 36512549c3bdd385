"""Batches for training and scoring: features from the store, or images for methods that train inside the tower.

Either is read in the background, a bounded number of batches ahead. B batch, S side of the tower's input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.preprocess import to_array
from blemish.io.prefetch import in_chunks, in_order
from blemish.io.progress import Reporter
from blemish.methods.base import Features, Method, Targets
from blemish.models.feature_cache import FeatureStore
from blemish.training.examples import Examples
from blemish.training.mosaics import Mosaics

__all__ = ["Batch", "Rows", "Source", "cache_features"]

Rows = NDArray[np.int64]
AHEAD = 3  # batches under way
ENCODED_AT_ONCE = 8  # images on a GPU


@dataclass(frozen=True)
class Batch:
    """Some rows of the examples: their features, or the normalised images [B, 3, S, S] themselves, and their truth."""

    rows: Rows
    inputs: Features | Tensor
    targets: Targets

    def features(self, method: Method) -> Features:
        """What the method's `encode` gives of them; gradients go as far back as something is trained."""
        frozen = self.inputs
        if isinstance(frozen, Tensor):
            with torch.no_grad():
                frozen = method.encode_frozen(frozen)
        return method.encode_trained(frozen)

    def to(self, device: torch.device) -> Batch:
        return Batch(self.rows, self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Source:
    """Where the inputs of these examples come from: the store where there is one, else the images."""

    examples: Examples
    preprocess: PreprocessConfig
    store: FeatureStore | None = None
    mosaics: Mosaics | None = None  # without a store

    def feed(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """These batches, in this order."""

        def load(rows: Rows) -> Batch:
            if self.mosaics is not None:
                return self._with_mosaics(rows, self.mosaics)
            return Batch(rows, self._inputs(rows), self.examples.targets(rows))

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="blemish") as pool:
            try:
                for batch, _ in in_order(pool, load, ((rows, 0) for rows in batches), most=AHEAD, most_bytes=0):
                    yield batch
            finally:  # a consumer that stops early does not wait for what was read ahead
                pool.shutdown(wait=True, cancel_futures=True)

    def names(self, rows: Rows) -> str:
        return ", ".join(self.examples.samples[row].name for row in rows)

    def _with_mosaics(self, rows: Rows, mosaics: Mosaics) -> Batch:
        """The batch of these images, some of them replaced."""
        targets, images = self.examples.targets(rows), []
        assert targets.has_mask is not None
        assert targets.type_id is not None
        for place, row in enumerate(rows.tolist()):
            mosaic = mosaics.mosaic(self.examples, row, self.preprocess)
            if mosaic is None:
                images.append(torch.from_numpy(to_array(self.examples.samples[row].picture(), self.preprocess)))
                continue
            images.append(mosaic.image)
            targets.mask[place] = torch.from_numpy(mosaic.mask)
            targets.type_id[place] = mosaic.type_id
            if not mosaics.label_of_replaced:
                targets.label[place] = int(mosaic.type_id != 0)
            targets.has_mask[place] = True
        return Batch(rows, torch.stack(images), targets)

    def _inputs(self, rows: Rows) -> Features | Tensor:
        if self.store is not None:
            return self.store.read([self.examples.digests[row] for row in rows])
        pictures = [self.examples.samples[row].picture() for row in rows]
        return torch.stack([torch.from_numpy(to_array(picture, self.preprocess)) for picture in pictures])


def cache_features(
    method: Method, sets: Sequence[Examples], store: FeatureStore, *, device: torch.device, reporter: Reporter
) -> None:
    """Puts the features that these sets lack into the store, after a look at the room on the disk for all of them.

    On the CPU images are encoded one by one, which is as fast there; on a GPU in fixed groups, and a group that lacks one
    image is encoded as a whole: so features do not depend on where an earlier run was stopped.
    """
    missing = sum(int((~examples.cached).sum()) for examples in sets)
    if not missing:
        return
    preprocess = method.backbone.config.preprocess
    with torch.inference_mode(), reporter.progress("caching features", missing) as advance:
        blank = method.encode_frozen(torch.zeros(1, 3, preprocess.size, preprocess.size, device=device))
        reporter.say(store.reserve(missing, bytes_each=store.entry_bytes(blank)))
        for examples in sets:
            groups = in_chunks(np.arange(len(examples)), 1 if device.type == "cpu" else ENCODED_AT_ONCE)
            lacking = [rows for rows in groups if not examples.cached[rows].all()]
            for batch in Source(examples, preprocess).feed(lacking):
                assert isinstance(batch.inputs, Tensor)  # there is no store to take features from
                features = method.encode_frozen(batch.inputs.to(device))
                for place, row in enumerate(batch.rows):
                    if not examples.cached[row]:
                        store.write(examples.digests[row], features, row=place, size_px=examples.sizes_px[row])
                        advance()
