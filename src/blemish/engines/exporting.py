"""Writes a method on its backbone as an exported model (`engines.exported`), with a report of how well it agrees with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from blemish import models
from blemish.backbones.preprocess import to_array
from blemish.config import ModelConfig
from blemish.engines.comparing import EXACT, bound_of, deviation_between, probe_images
from blemish.engines.exported import (
    BUILT_IN,
    EXPORT_FILE,
    EXPORT_SCHEMA,
    GIVEN,
    INT8_FILE,
    IR_FILE,
    ONNX_FILE,
    TEXTS_FILE,
    ExportedEngine,
    file_digest_of,
)
from blemish.engines.held_out import on_held_out
from blemish.engines.int8 import LARGEST_LOSS, compare_int8, quantise
from blemish.engines.onnx_export import OPSET, text_parts, write_scores
from blemish.engines.sessions import installed_libraries
from blemish.engines.torch import TorchEngine
from blemish.errors import MissingExtraError, UsageError
from blemish.images import Picture
from blemish.io.atomic import write_text
from blemish.io.codec import to_dict
from blemish.io.json_files import json_text
from blemish.io.provenance import utc_now, versions
from blemish.language import Vocabulary, general
from blemish.methods.base import Texts
from blemish.models.paths import new_folder

__all__ = ["ExportedModel", "export_model"]


@dataclass(frozen=True)
class ExportedModel:
    """What was written."""

    folder: Path
    bytes: int
    errors: Mapping[str, float]  # the largest error of a score or map for each library, 0..1
    images: int  # that it was measured on
    int8: str = ""  # whether the quantised model was kept, with the figures; "" where none was asked for


def export_model(
    config: ModelConfig,
    folder: Path,
    *,
    vocabulary: Vocabulary | None = None,
    input_px: int | None = None,
    images: Sequence[Picture] | None = None,
    tolerance: float = EXACT,
    int8_photos: int = 0,
    overwrite: bool = False,
) -> ExportedModel:
    """Writes the exported model of a configuration.

    Args:
        config: The model.
        folder: Where to; it must not exist, unless `overwrite`.
        vocabulary: Defect types whose text features are put in beside those of the built-in ones.
        input_px: Side of the square that images are resized to; None for the backbone's own.
        images: To compare with torch on; None for two rendered ones.
        tolerance: Of the largest error of a score or a map.
        int8_photos: So many held-out rendered pictures judge a quantised model, which is kept where it loses next to nothing
            (`int8.LARGEST_LOSS`); 0 for none.
        overwrite: Replaces the folder.

    Raises:
        MissingExtraError: Neither ONNX Runtime nor OpenVINO is installed, or onnx is not.
        UsageError: The folder is there, the method cannot be exported, or an error exceeds the tolerance.
        ModelError: Weights or prompts are not what was expected.
    """
    libraries = installed_libraries()
    if not libraries:
        raise MissingExtraError("onnxruntime", "onnx", "checking an exported model")
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder}: is there already; choose another folder, or --overwrite")
    loaded = TorchEngine.load(replace(config, engine="torch", device="cpu", precision="float32"), input_px=input_px)
    engine = loaded.engine
    assert isinstance(engine, TorchEngine)
    vocabularies = {BUILT_IN: general()} | ({} if vocabulary is None else {GIVEN: vocabulary})
    texts = {name: engine.encode_texts(own) for name, own in vocabularies.items()}
    types_at = _types_at(engine, texts[BUILT_IN])
    if images is not None and not images:
        raise UsageError("there is no image to compare the exported model with torch on")
    probes = (
        probe_images(engine.method) if images is None else np.stack([to_array(each, engine.input) for each in images])
    )
    with new_folder(folder, overwrite=overwrite) as place:
        write_scores(
            engine.method,
            texts[BUILT_IN],
            place / ONNX_FILE,
            types_at={name: None if at is None else at["dimension"] for name, at in types_at.items()},
        )
        if "openvino" in libraries:
            _write_ir(place)
        arrays = {
            f"{of}/{name}": np.ascontiguousarray(part.cpu().numpy())
            for of, own in texts.items()
            for name, part in text_parts(own).items()
        }
        save_file(arrays, place / TEXTS_FILE)
        write_text(place / "requirements.txt", "".join(f"{line}\n" for line in lean_requirements()))
        write_text(place / "card.json", json_text(models.card(config.backbone)))
        features = engine.encode(probes[:1])
        facts: dict[str, Any] = {
            "schema": EXPORT_SCHEMA,
            "created": utc_now(),
            "versions": versions(),
            "opset": OPSET,
            "model": to_dict(engine.model),
            "input": to_dict(engine.input),
            "grid": list(features.grid),
            "scores_depend_on_vocabulary": engine.scores_depend_on_vocabulary,
            "aligned_corners": engine.aligned_corners,
            "remarks": list(engine.remarks),
            "thresholds": dict(loaded.thresholds),
            "min_lead": loaded.min_lead,
            "texts": types_at,
            "vocabularies": {name: [to_dict(defect) for defect in own.types] for name, own in vocabularies.items()},
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": file_digest_of(file)}
                for file in sorted(place.iterdir())
            },
        }
        errors = {}
        for library in libraries:
            write_text(place / EXPORT_FILE, json_text(facts | {"parity": {"bound": 1.0}}))
            errors[library] = _largest_error(engine, ExportedEngine(place, library=library), vocabularies, probes)
            if errors[library] > tolerance:
                raise UsageError(
                    f"{library} gives scores up to {errors[library]:.1e} from torch's on {len(probes)} images, more than "
                    f"{tolerance:g}: nothing was exported"
                )
        facts["parity"] = {
            "images": len(probes),
            "rendered": images is None,
            "tolerance": tolerance,
            "largest_error": errors,
            "bound": bound_of(max(errors.values())),
        }
        write_text(place / EXPORT_FILE, json_text(facts))
        if int8_photos:
            facts["int8"] = _with_int8(place, facts, libraries, photos=int8_photos, threads=config.threads)
            write_text(place / EXPORT_FILE, json_text(facts))
        size = sum(file.stat().st_size for file in place.iterdir())
    return ExportedModel(folder, size, errors, len(probes), facts.get("int8", {}).get("said", ""))


def _with_int8(
    place: Path, facts: dict[str, Any], libraries: Sequence[str], *, photos: int, threads: int | None
) -> dict[str, Any]:
    """Writes the quantised model, and keeps it where every library loses next to nothing with it; what export.json says of it."""
    exact = ExportedEngine(place, library=libraries[0], threads=threads)
    file = place / INT8_FILE
    quantise(place / ONNX_FILE, file, preprocess=exact.input, texts=exact.encode_texts(general()).arrays)
    facts["files"][INT8_FILE] = {"bytes": file.stat().st_size, "sha256": file_digest_of(file)}
    write_text(place / EXPORT_FILE, json_text(facts))
    expected, found = on_held_out(exact, count=photos), {}
    for library in libraries:
        quantised = ExportedEngine(place, library=library, threads=threads, precision="int8")
        found[library] = compare_int8(expected, on_held_out(quantised, count=photos), facts["thresholds"])
    worst = max(found.values(), key=lambda result: result.loss)
    accepted = worst.accepted
    if not accepted:
        file.unlink()
        del facts["files"][INT8_FILE]
    limit = f"the loss of {worst.loss:.4f} is {'below' if accepted else 'not below'} {LARGEST_LOSS}"
    return {
        "accepted": accepted,
        "said": f"{'kept' if accepted else 'refused'}: {limit}: {worst}",
        "results": {library: to_dict(result) for library, result in found.items()},
    }


def lean_requirements() -> list[str]:
    """What a run without torch needs: all that the package itself needs but torch, and ONNX Runtime."""
    needed = [line for line in requires("blemish") or () if "extra ==" not in line and not line.startswith("torch")]
    return sorted([*needed, "onnxruntime>=1.20"])


def _types_at(engine: TorchEngine, texts: Texts) -> dict[str, dict[str, int] | None]:
    """Where the types lie in each tensor of the texts: the dimension, and how many rows stand before them; None where the tensor
    is the same for every vocabulary.

    It is found by encoding the vocabulary again in another order with one type less.
    """
    types = texts.vocabulary.types
    fewer = Vocabulary(tuple(reversed(types[:-1])))
    parts, others = text_parts(texts), text_parts(engine.encode_texts(fewer))
    found: dict[str, dict[str, int] | None] = {}
    for name, part in parts.items():
        other = others[name]
        changed = [at for at, (one, two) in enumerate(zip(part.shape, other.shape, strict=True)) if one != two]
        if not changed and torch.equal(part, other):
            found[name] = None
            continue
        if len(changed) == 1:
            at = changed[0]
            before = part.shape[at] - len(types)
            rows = [*range(before), *(before + len(types) - 2 - row for row in range(len(types) - 1))]
            if before >= 0 and torch.allclose(part.index_select(at, torch.tensor(rows)), other, atol=1e-6):
                found[name] = {"dimension": at, "before": before}
                continue
        raise UsageError(
            f"the method {engine.model.method!r} mixes the words of all defect types ({name}): its texts cannot be exported"
        )
    return found


def _largest_error(
    engine: TorchEngine, other: ExportedEngine, vocabularies: Mapping[str, Vocabulary], images: NDArray[np.float32]
) -> float:
    """Of a score or a map of these images, alone and in a batch, with each vocabulary and with a part of it."""
    largest = 0.0
    for own in vocabularies.values():
        for vocabulary in (own, Vocabulary(own.types[:1])):
            for batch in (images[:1], images):
                here = engine.score(engine.encode(batch), engine.encode_texts(vocabulary))
                there = other.score(other.encode(batch), other.encode_texts(vocabulary))
                largest = max(largest, deviation_between(here, there))
    return largest


def _write_ir(place: Path) -> None:
    """The model as OpenVINO's IR, its numbers in float32."""
    import openvino

    openvino.save_model(openvino.convert_model(str(place / ONNX_FILE)), str(place / IR_FILE), compress_to_fp16=False)
