"""A deployable library: what a build returns and what an output folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arrays import Inputs, fit, join
from tvm_tinyml.artifacts.folder import MARK, is_ours, write_folder
from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.device.archive import read_archive
from tvm_tinyml.errors import DeviceError, InputError
from tvm_tinyml.options import nearest
from tvm_tinyml.session import Session

DEVICES = ("sim",)


@dataclass(frozen=True)
class LayerProfile:
    """What one layer cost."""

    name: str
    op: str
    macs: int
    instructions: int


@dataclass(frozen=True)
class Profile:
    """What one inference cost.

    Attributes
    ----------
    instructions : of the whole ``run``, on the simulator.
    stack_bytes : deepest use of the stack in that run.
    layers : each layer's kernel, called alone on the same data.
    """

    instructions: int
    stack_bytes: int
    layers: tuple[LayerProfile, ...]


@dataclass(frozen=True)
class Library:
    """A compiled network.

    Attributes
    ----------
    metadata : sizes, layers, inputs and outputs: the content of ``metadata.json``.
    header : the public C header.
    sources : the C form by file name; empty if it was not asked for.
    archive : the object form, a static library; empty if it was not asked for.
    report : the same figures as one HTML page.
    """

    metadata: Metadata
    header: str
    sources: Mapping[str, str]
    archive: bytes
    report: str

    @classmethod
    def read(cls, folder: str | Path) -> Library:
        """Read a library from a folder that `write` wrote.

        Raises
        ------
        InputError : the folder is not there or not one of ours.
        """
        path = Path(folder)
        if not is_ours(path):
            raise InputError(f"'{path}' is not an output folder of tvm-tinyml: it has no {MARK} of ours.")
        name = json.loads((path / MARK).read_text(encoding="utf-8"))["model"]
        archive = path / "lib" / f"libtvmgen_{name}.a"
        return cls(
            metadata=json.loads((path / MARK).read_text(encoding="utf-8")),
            header=(path / "include" / f"tvmgen_{name}.h").read_text(encoding="utf-8"),
            sources={p.name: p.read_text(encoding="utf-8") for p in sorted((path / "src").glob("*"))},
            archive=archive.read_bytes() if archive.exists() else b"",
            report=(path / "report.html").read_text(encoding="utf-8"),
        )

    @property
    def name(self) -> str:
        """The model's name, a C identifier."""
        return str(self.metadata["model"])

    @property
    def ram_bytes(self) -> int:
        """RAM that an application must reserve: workspace, worst-case stack and static data."""
        return int(self.metadata["ram_bytes"]["total"])

    @property
    def flash_bytes(self) -> int:
        """Flash that the library takes: weights and code."""
        return int(self.metadata["flash_bytes"]["total"])

    @property
    def objects(self) -> list[bytes]:
        """The relocatable objects of the archive."""
        return [data for _, data in read_archive(self.archive)]

    def write(self, folder: str | Path) -> None:
        """Write header, archive, sources, metadata and report; the folder appears whole or not at all.

        Raises
        ------
        OutputError : the folder exists and is not ours, or cannot be written.
        """
        files: dict[str, str | bytes] = {
            f"include/tvmgen_{self.name}.h": self.header,
            **{f"src/{name}": text for name, text in self.sources.items()},
            MARK: json.dumps(self.metadata, indent=1) + "\n",
            "report.html": self.report,
        }
        if self.archive:
            files[f"lib/libtvmgen_{self.name}.a"] = self.archive
        write_folder(Path(folder), files)

    def run(self, inputs: Inputs, on: str = "sim") -> dict[str, NDArray[Any]]:
        """Run inferences and return the outputs by name.

        Parameters
        ----------
        inputs : an array when there is one input, or arrays by name; with or without a leading dimension of samples.
            Floats for an integer input are quantized with its scale.
        on : ``sim``, the simulator of the target's core.

        Raises
        ------
        InputError : the arrays do not fit.
        DeviceError : the device is unknown, or the program failed on it.
        """
        arrays, samples = fit(inputs, self.metadata["inputs"])
        with closing(self._session(on)) as session:
            results = [session.run([a[i] for a in arrays]).outputs for i in range(len(arrays[0]))]
        names = [tensor["name"] for tensor in self.metadata["outputs"]]
        return dict(zip(names, join(results, samples), strict=True))

    def profile(self, inputs: Inputs | None = None, on: str = "sim") -> Profile:
        """Count the instructions of one inference, in all and by layer.

        Parameters
        ----------
        inputs : as for `run`; the first sample is used. None: zeros.
        """
        if inputs is None:
            inputs = {t["name"]: np.zeros(t["shape"], t["dtype"]) for t in self.metadata["inputs"]}
        arrays, _ = fit(inputs, self.metadata["inputs"])
        with closing(self._session(on)) as session:
            call = session.run([array[0] for array in arrays]).call
            counts = session.run_layers()
        layers = tuple(
            LayerProfile(layer["name"], layer["op"], layer["macs"], count)
            for layer, count in zip(self.metadata["layers"], counts, strict=True)
        )
        return Profile(call.instructions, call.stack_bytes, layers)

    def _session(self, on: str) -> Session:
        if on not in DEVICES:
            raise DeviceError(f"There is no device named {on!r}.{nearest(on, DEVICES)} Known: {', '.join(DEVICES)}.")
        if not self.archive:
            raise DeviceError("The library has no object form to run. Compile it with --emit lib or --emit both.")
        return Session(self.metadata, self.objects)
