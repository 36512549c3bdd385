"""Reads the tensors of a TorchScript archive without running anything that is in it.

The archive is a zip: `*/data.pkl` describes the module tree, `*/data/N` are the raw numbers. The pickle is not handed to
Python's unpickler: a small stack machine below knows the operations that a module tree of tensors is written with, and
whatever else it meets is refused by name. OpenAI published CLIP in this form.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.errors import ModelError

__all__ = ["is_torchscript", "read_torchscript"]

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LIST_BUILDERS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def is_torchscript(archive: zipfile.ZipFile) -> bool:
    """Whether the zip is a TorchScript archive rather than a saved state dict (which has no constants)."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the archive's module by their dotted names, as stored; attributes are left out.

    A damaged archive, or one whose pickle asks for anything but tensors in modules, raises ModelError.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ModelError(f"{path}: expected little-endian numbers, found big-endian ones")
        machine = _StackMachine(path, archive, root)
        module = machine.run(archive.read(f"{root}data.pkl"))
    if not isinstance(module, _Module):
        raise ModelError(f"{path}: expected a TorchScript module, found {type(module).__name__}")
    return _flatten(module)


class _Global:
    """A name that the pickle asked for; nothing behind it is ever looked up."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class _Module:
    """The inert stub of every TorchScript class: its attributes and nothing else."""

    def __init__(self) -> None:
        self.attributes: dict[Any, Any] = {}


_MARK = object()


class _StackMachine:
    """Interprets the few pickle operations that describe modules of tensors."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self.path = path
        self.archive = archive
        self.root = root
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Tensor] = {}

    def run(self, pickle: bytes) -> Any:
        try:
            for operation, argument, _ in pickletools.genops(pickle):
                if operation.name == "STOP":
                    return self.stack.pop()
                handler = _OPERATIONS.get(operation.name)
                if handler is None:
                    raise self._refused(f"the pickle operation {operation.name}")
                handler(self, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(f"{self.path}: the module description is damaged ({_shortened(error)})") from error
        raise ModelError(f"{self.path}: the module description ends too early")

    def admit(self, module: str, name: str) -> None:
        inert = module == "__torch__" or module.startswith("__torch__.")
        known = {
            "torch._utils": ("_rebuild_tensor_v2",),
            "collections": ("OrderedDict",),
            "torch.jit._pickle": (*LIST_BUILDERS, "restore_type_tag"),
            "torch": tuple(DTYPES),
        }
        if not inert and name not in known.get(module, ()):
            raise self._refused(f"{module}.{name}")
        self.stack.append(_Global(module, name))

    def named_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.admit(module, name)

    def stacked_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._refused("something without a name")
        self.admit(module, name)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def items(self) -> list[Any]:
        """What lies above the last mark, which is taken away."""
        start = max(index for index, value in enumerate(self.stack) if value is _MARK)
        found = self.stack[start + 1 :]
        del self.stack[start:]
        return found

    def tuple_of(self, count: int) -> None:
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(found)

    def set_items(self, _: Any) -> None:
        flat = self.items()
        self.stack[-1].update(zip(flat[::2], flat[1::2], strict=True))

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update({key: value})

    def skip(self, _: Any) -> None:
        """Nothing, for what only frames the rest."""

    def extend(self, _: Any) -> None:
        found = self.items()
        self.stack[-1].extend(found)

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def new_object(self, _: Any) -> None:
        self.stack.pop()  # arguments
        kind = self.stack.pop()
        if not kind.module.startswith("__torch__"):
            raise self._refused(f"an object of {kind.module}.{kind.name}")
        self.stack.append(_Module())

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Module) or not isinstance(state, dict):
            raise self._refused(f"a state for {type(target).__name__}")
        target.attributes.update(state)

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if function.name == "OrderedDict":
            result: Any = dict(*arguments)
        elif function.name == "_rebuild_tensor_v2":
            result = self._tensor(*arguments[:4])
        elif function.module == "torch.jit._pickle":
            result = arguments[0]
        else:
            raise self._refused(f"a call of {function.module}.{function.name}")
        self.stack.append(result)

    def storage(self, _: Any) -> None:
        """The numbers of one storage, read from the zip (which checks them) the first time they are asked for."""
        kind, storage_type, key, _device, count = self.stack.pop()
        if kind != "storage":
            raise self._refused(f"a stored {kind}")
        dtype = DTYPES[storage_type.name]
        if key not in self.storages:
            member = self.archive.getinfo(f"{self.root}data/{key}")
            if member.file_size != count * dtype.itemsize or member.compress_type != zipfile.ZIP_STORED:
                raise ModelError(
                    f"{self.path}: storage {key} is damaged: "
                    f"expected {count * dtype.itemsize} bytes, found {member.file_size}"
                )
            numbers = bytearray(member.file_size)
            with self.archive.open(member) as source:
                source.readinto(numbers)  # type: ignore[attr-defined]
                source.read(1)  # reaching the end is what compares the checksum
            self.storages[key] = torch.frombuffer(numbers, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        self.stack.append(self.storages[key])

    def _tensor(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
            raise ValueError(f"a tensor of size {size} and stride {stride}")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= len(storage):
            raise ValueError(f"a tensor of size {size} in {len(storage)} numbers")
        return torch.as_strided(storage, size, stride, offset)

    def _refused(self, what: str) -> ModelError:
        what = _shortened(what)
        return ModelError(f"{self.path}: asks for {what}; only tensors are read from a model file, so it is refused")


def _shortened(text: object) -> str:
    """On one line: it may hold whatever is in the file."""
    return " ".join(str(text).split())[:120]


def _push(make: Callable[[Any], Any]) -> Callable[[_StackMachine, Any], None]:
    return lambda machine, argument: machine.stack.append(make(argument))


def _itself(argument: Any) -> Any:
    return argument


_OPERATIONS: dict[str, Callable[[_StackMachine, Any], None]] = {
    "PROTO": _StackMachine.skip,
    "FRAME": _StackMachine.skip,
    "GLOBAL": _StackMachine.named_global,
    "STACK_GLOBAL": _StackMachine.stacked_global,
    "MARK": _push(lambda _: _MARK),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_LIST": _push(lambda _: []),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    **{name: _push(_itself) for name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")},
    **{name: _push(_itself) for name in ("BINUNICODE", "SHORT_BINUNICODE")},
    "BINPUT": _StackMachine.put,
    "LONG_BINPUT": _StackMachine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "SETITEM": _StackMachine.set_item,
    "SETITEMS": _StackMachine.set_items,
    "APPEND": _StackMachine.append,
    "APPENDS": _StackMachine.extend,
    "NEWOBJ": _StackMachine.new_object,
    "BUILD": _StackMachine.build,
    "REDUCE": _StackMachine.reduce,
    "BINPERSID": _StackMachine.storage,
}


def _flatten(module: _Module) -> dict[str, Tensor]:
    """Every tensor by its dotted name; a module that appears twice is listed where it is met first."""
    tensors: dict[str, Tensor] = {}
    pending = [("", module)]
    seen = {id(module)}
    while pending:
        prefix, current = pending.pop()
        for name, value in current.attributes.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, _Module) and id(value) not in seen:
                seen.add(id(value))
                pending.append((f"{prefix}{name}.", value))
    return tensors
