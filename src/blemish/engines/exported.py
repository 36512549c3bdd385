"""Exported models: a folder that `blemish export-model` wrote, run without torch.

The folder holds the whole way from images and text features to scores as one graph (ONNX, OpenVINO IR), the text features of the
built-in defect types and of those given at the export, and export.json with everything else. B batch, S side of the input in
pixels, T defect types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.config import PreprocessConfig
from blemish.config import ModelConfig, NumberPrecision
from blemish.engines.base import Engine, LoadedEngine, RawScores
from blemish.engines.sessions import LIBRARIES, installed_libraries, open_graph, require
from blemish.errors import MissingExtraError, ModelError, UsageError
from blemish.io.codec import from_dict, to_dict
from blemish.io.json_files import read_json
from blemish.language import DefectType, Vocabulary
from blemish.results import ModelInfo

__all__ = [
    "BUILT_IN",
    "EXPORT_FILE",
    "EXPORT_SCHEMA",
    "GIVEN",
    "INT8_FILE",
    "IR_FILE",
    "ONNX_FILE",
    "TEXTS_FILE",
    "ExportedEngine",
    "TextRows",
    "file_digest_of",
    "is_exported",
]

EXPORT_SCHEMA = "blemish.exported_model/1"
EXPORT_FILE = "export.json"
ONNX_FILE = "model.onnx"
IR_FILE = "model.xml"  # of OpenVINO; its numbers are in model.bin
INT8_FILE = "model-int8.onnx"  # where its gate let it pass
TEXTS_FILE = "texts.safetensors"
BUILT_IN, GIVEN = "built-in", "given"  # the vocabularies in it
FILES_OF = {"openvino": (IR_FILE, "model.bin"), "onnxruntime": (ONNX_FILE,), "tensorrt": (ONNX_FILE,)}


@dataclass(frozen=True, eq=False)
class TextRows:
    """The text features of some defect types, as the graph takes them."""

    names: tuple[str, ...]  # T
    arrays: tuple[NDArray[np.float32], ...]


class ExportedEngine(Engine):
    """An exported model, run by OpenVINO or ONNX Runtime on a processor.

    Args:
        folder: What `blemish export-model` wrote.
        library: "openvino" or "onnxruntime".
        threads: That it computes with; None for one a free processor.
        precision: "int8" for the quantised model, where the folder has one.

    Raises:
        ModelError: A file is missing, was altered, or is of a version that this one cannot read.
    """

    name: ClassVar[str] = "exported"

    def __init__(
        self, folder: Path, *, library: str, threads: int | None = None, precision: NumberPrecision = "float32"
    ) -> None:
        self.facts = read_facts(folder)
        self.name = library  # type: ignore[misc]  # results name the library that computed them
        self.precision = precision
        wanted = FILES_OF[library] if FILES_OF[library][0] in self.facts["files"] else FILES_OF["onnxruntime"]
        if precision == "int8":
            wanted = (INT8_FILE,)
        for file in (*wanted, TEXTS_FILE):
            check_file(folder / file, self.facts["files"])
        facts = self.facts
        self.input = from_dict(PreprocessConfig, facts["input"])
        self.model = from_dict(ModelInfo, facts["model"])
        self.scores_depend_on_vocabulary = bool(facts["scores_depend_on_vocabulary"])
        self.aligned_corners = bool(facts["aligned_corners"])
        self.remarks = tuple(facts["remarks"])
        self.deviation = 1.0 if precision == "int8" else float(facts["parity"]["bound"])
        self.grid = (int(facts["grid"][0]), int(facts["grid"][1]))
        self._texts = _read_texts(folder / TEXTS_FILE)
        self._run = open_graph(library, folder / wanted[0], threads=threads)

    @classmethod
    def load(cls, config: ModelConfig, *, input_px: int | None = None) -> LoadedEngine:
        folder = Path(config.backbone).expanduser()
        facts = read_facts(folder)
        given = {"method": config.method, "prompts": config.prompts, "options": dict(config.options) or None}
        for name, value in given.items():
            if value is not None and value != facts["model"].get(name):
                raise UsageError(
                    f"{folder}: an exported model keeps its {name}; export another one (blemish export-model)"
                )
        if config.precision == "half" or (config.device != "cpu" and config.engine != "tensorrt"):
            raise UsageError(f"{folder}: an exported model runs on the processor, in float32 or int8")
        own = int(facts["input"]["size"])
        if input_px not in (None, own):
            raise UsageError(f"{folder}: was exported for an input of {own} px, not {input_px}: export it again")
        library = _library_for(config.engine)
        int8 = _int8_of(folder, facts, library) if config.precision == "int8" else None
        engine = cls(folder, library=library, threads=config.threads, precision=config.precision)
        thresholds = facts["thresholds"] if int8 is None else int8["thresholds"]
        return LoadedEngine(engine=engine, thresholds=thresholds, min_lead=float(facts["min_lead"]))

    def encode_texts(self, vocabulary: Vocabulary) -> TextRows:
        """The rows of these types; UsageError where the folder has no features of one of them."""
        places = [self._place(defect) for defect in vocabulary.types]
        arrays = []
        for name, types_at in self.facts["texts"].items():
            if types_at is None:
                arrays.append(self._texts[f"{BUILT_IN}/{name}"])
                continue
            at, before = int(types_at["dimension"]), int(types_at["before"])
            first = self._texts[f"{BUILT_IN}/{name}"].take(range(before), axis=at)
            own = [self._texts[f"{of}/{name}"].take([before + row], axis=at) for of, row in places]
            arrays.append(np.ascontiguousarray(np.concatenate([first, *own], axis=at)))
        return TextRows(vocabulary.names, tuple(arrays))

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The images themselves: the graph encodes and scores in one go."""
        return np.ascontiguousarray(images, dtype=np.float32)

    def score(self, features: NDArray[np.float32], texts: TextRows) -> list[RawScores]:
        image_scores, maps, type_scores, type_maps = self._run([features, *texts.arrays])
        return [
            RawScores(
                image_score=float(image_scores[row]),
                anomaly_map=maps[row],
                types=texts.names,
                type_scores=type_scores[row],
                type_maps=type_maps[row],
                grid=self.grid,
            )
            for row in range(len(image_scores))
        ]

    def _place(self, defect: DefectType) -> tuple[str, int]:
        """The vocabulary of the folder that has this type, and its number there."""
        plain = to_dict(defect)
        for of, types in self.facts["vocabularies"].items():
            for row, known in enumerate(types):
                if known == plain:
                    return of, row
        known_names = sorted({known["name"] for types in self.facts["vocabularies"].values() for known in types})
        raise UsageError(
            f"the exported model has no text features of {defect.name!r} with these words (it knows: {', '.join(known_names)}); "
            "export it again with blemish export-model --defects …"
        )


def is_exported(backbone: str) -> bool:
    """Whether the name or path of a backbone is the folder of an exported model."""
    return (Path(backbone).expanduser() / EXPORT_FILE).is_file()


def file_digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """export.json; ModelError where it cannot be read, or is of another version."""
    try:
        facts = read_json(folder / EXPORT_FILE)
    except UsageError as error:
        raise ModelError(str(error)) from error
    if facts.get("schema") != EXPORT_SCHEMA:
        raise ModelError(
            f"{folder}: was exported as {facts.get('schema')!r}, this version reads {EXPORT_SCHEMA!r}: export it again"
        )
    return facts


def check_file(file: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """ModelError where a file of the folder is missing or is not the one that was written."""
    if not file.is_file():
        raise ModelError(f"{file}: is missing from the exported model; copy the whole folder")
    said = files.get(file.name, {})
    if file.stat().st_size != said.get("bytes") or file_digest_of(file) != said.get("sha256"):
        raise ModelError(f"{file}: is not the file that was exported (its digest differs); copy or export it again")


def _int8_of(folder: Path, facts: Mapping[str, Any], library: str) -> Mapping[str, Any]:
    """What export.json says of the quantised model as this library runs it; UsageError where there is none."""
    found: Mapping[str, Any] = facts.get("int8") or {}
    if not found:
        raise UsageError(f"{folder}: was exported without int8; export it again with blemish export-model --int8")
    if not found["accepted"]:
        raise UsageError(f"{folder}: int8 was refused when it was exported ({found['said']})")
    if library not in found["results"]:
        known = ", ".join(found["results"])
        raise UsageError(
            f"{folder}: int8 was judged with {known}, not with {library}: choose --engine, or export it again"
        )
    result: Mapping[str, Any] = found["results"][library]
    return result


def _library_for(engine: str) -> str:
    """The library that runs it: the one named, else the fastest that is installed."""
    if engine in LIBRARIES:
        require(engine)
        return engine
    found = installed_libraries()
    if not found:
        raise MissingExtraError("onnxruntime or openvino", "onnx", "an exported model")
    return found[0]


def _read_texts(file: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return load_file(file)
