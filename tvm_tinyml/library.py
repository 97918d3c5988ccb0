"""A deployable library: what a build returns and what an output folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.arrays import Inputs, fit, join
from tvm_tinyml.artifacts.folder import MARK, is_ours, reason, write_folder
from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.artifacts.report import report
from tvm_tinyml.device.archive import read_archive
from tvm_tinyml.device.elf import ElfObject
from tvm_tinyml.device.engines import DEVICES, can_simulate
from tvm_tinyml.errors import DeviceError, InputError
from tvm_tinyml.options import memory_timing, nearest
from tvm_tinyml.profile import Profile, profile
from tvm_tinyml.samples import sample_inputs
from tvm_tinyml.session import Session

NEEDED = {
    *("options", "macs", "macs_executed", "ram_bytes", "flash_bytes", "kernels", "inputs", "outputs", "pools"),
    "constants",
}
"""What a library's metadata must hold to be used, besides the keys that tell that it is one."""


@dataclass(frozen=True)
class Library:
    """A compiled network.

    Attributes
    ----------
    metadata : sizes, layers, inputs and outputs: the content of ``metadata.json``.
    header : the public C header.
    sources : the C form by file name; empty if it was not asked for.
    archive : the object form, a static library; empty if it was not asked for.
    """

    metadata: Metadata
    header: str
    sources: Mapping[str, str]
    archive: bytes

    @classmethod
    def read(cls, folder: str | Path) -> Library:
        """Read a library from a folder that `write` wrote.

        Raises
        ------
        InputError : the folder is not there, not one of ours, of another version, or incomplete.
        """
        path = Path(folder)
        _check_folder(path)
        try:
            metadata = json.loads((path / MARK).read_text(encoding="utf-8"))
            name = metadata["model"]
            archive = path / "lib" / f"libtvmgen_{name}.a"
            sources = sorted((path / "src").glob("*")) if metadata["options"]["emit"] != "lib" else []
            library = cls(
                metadata=metadata,
                header=(path / "include" / f"tvmgen_{name}.h").read_text(encoding="utf-8"),
                sources={p.name: p.read_text(encoding="utf-8") for p in sources if p.suffix in (".c", ".h")},
                archive=archive.read_bytes() if metadata["options"]["emit"] != "c" else b"",
            )
        except OSError as error:
            raise InputError(
                f"Library '{path}' is incomplete: '{error.filename}': {reason(error)}. Compile the model again."
            ) from error
        _check_archive(library, path)
        return library

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
        return [data for _, data in read_archive(self.archive)] if self.archive else []

    def files(self) -> dict[str, str | bytes]:
        """Return what `write` puts into the folder beside the report, by path."""
        files: dict[str, str | bytes] = {
            f"include/tvmgen_{self.name}.h": self.header,
            **{f"src/{name}": text for name, text in self.sources.items()},
            MARK: json.dumps(self.metadata, indent=1) + "\n",
        }
        if self.archive:
            files[f"lib/libtvmgen_{self.name}.a"] = self.archive
        return files

    def report(self) -> str:
        """Return all figures as one HTML page, with the instructions of each layer where a simulator is installed.

        Raises
        ------
        DeviceError : the program fails on the simulator.
        """
        sizes = {name: len(_encoded(content)) for name, content in self.files().items()}
        return report({**self._counted(), "files": sizes})

    def write(self, folder: str | Path) -> None:
        """Write header, archive, sources, metadata and report; the folder appears whole or not at all.

        Raises
        ------
        OutputError : the folder exists and is not ours, or cannot be written.
        DeviceError : the program fails on the simulator.
        """
        write_folder(Path(folder), {**self.files(), "report.html": self.report()})

    def run(self, inputs: Inputs, on: str = "sim") -> dict[str, NDArray[Any]]:
        """Run inferences and return the outputs by name.

        Parameters
        ----------
        inputs : an array when there is one input, or arrays by name; with or without a leading dimension of samples.
            Floats for an integer input are quantized with its scale.
        on : ``sim``, our simulator of the target's core, or ``qemu``, QEMU's.

        Raises
        ------
        InputError : the arrays do not fit, the device is unknown, or there is no object form.
        DeviceError : there is no simulator, or the program failed on it.
        """
        arrays, samples = fit(inputs, self.metadata["inputs"])
        with closing(self._session(on)) as session:
            results = [session.run([a[i] for a in arrays]).outputs for i in range(len(arrays[0]))]
        names = [tensor["name"] for tensor in self.metadata["outputs"]]
        return dict(zip(names, join(results, samples), strict=True))

    def profile(self, inputs: Inputs | None = None, on: str = "sim", memory: str | None = None) -> Profile:
        """Count cycles and instructions of one inference, in all and by layer.

        Parameters
        ----------
        inputs : as for `run`; the first sample is used. None: the documented input, `sample_inputs`.
        memory : as for `build`. None: the one that the library was built for.

        Raises
        ------
        InputError, DeviceError : as for `run`.
        TargetError : there is no such memory.
        """
        timing = memory_timing(memory or self.metadata["options"]["memory"])
        if inputs is None:
            inputs = sample_inputs(self.metadata["inputs"])
        arrays, _ = fit(inputs, self.metadata["inputs"])
        with closing(self._session(on)) as session:
            return profile(session, self.metadata, [array[0] for array in arrays], timing, on)

    def _counted(self) -> Metadata:
        """Return the metadata with the cycles of the whole and of each layer, if they can be counted here."""
        if not self.archive or not can_simulate(self.metadata["target"].split("+")[0]):
            return self.metadata
        counted = self.profile()
        layers = [
            {**layer, "cycles": costs.cycles, "instructions": costs.instructions}
            for layer, costs in zip(self.metadata["layers"], counted.layers, strict=True)
        ]
        return {
            **self.metadata,
            "memory": counted.memory,
            "model_version": counted.model_version,
            "cycles": counted.cycles,
            "instructions": counted.instructions,
            "layers": layers,
        }

    def _session(self, on: str) -> Session:
        if on not in DEVICES:
            raise InputError(f"There is no device named {on!r}.{nearest(on, DEVICES)} Known: {', '.join(DEVICES)}.")
        if not self.archive:
            raise InputError(
                f"The library of '{self.name}' has no object form to run. Compile it with --emit lib or --emit both."
            )
        return Session(self.metadata, self.objects, on=on)


def _encoded(content: str | bytes) -> bytes:
    return content.encode("utf-8") if isinstance(content, str) else content


def _check_folder(path: Path) -> None:
    """Raise an error that says why a folder is not one that this version wrote."""
    if not path.exists():
        raise InputError(f"There is no folder '{path}'. Give a folder that compile wrote.")
    if not path.is_dir():
        raise InputError(f"'{path}' is a file. Give a folder that compile wrote.")
    if not is_ours(path):
        raise InputError(f"'{path}' is not an output folder of tvm-tinyml: it has no {MARK} of ours.")
    written = json.loads((path / MARK).read_text(encoding="utf-8"))
    missing = sorted(NEEDED - set(written))
    if missing:
        raise InputError(
            f"'{path}' was written by version {written['version']}: its {MARK} has no {', '.join(missing)}. "
            "Compile the model again."
        )


def _check_archive(library: Library, path: Path) -> None:
    """Raise an error when the object form is damaged."""
    try:
        for data in library.objects:
            ElfObject.parse(data)
    except DeviceError as error:
        raise InputError(f"Library '{path}' has a damaged archive: {error}. Compile the model again.") from error
