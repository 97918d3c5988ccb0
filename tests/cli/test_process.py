"""What only a process of its own shows: entry points, signals, pipes, imports, and the same files every time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import content
from tests.library.builds import library, network

ROOT = Path(__file__).parents[2]
AS_MODULE = (sys.executable, "-m", "tvm_tinyml")
COMPILE = ("compile", "kws.tflite", "--target", "cortex-m4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model."""
    here = tmp_path_factory.mktemp("process")
    (here / "kws.tflite").write_bytes(network("kws").data)
    return here


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": str(ROOT), **more}


def start(*command: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([str(c) for c in command], text=True, env=environment(), **options)


def python(program: str, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(**more), timeout=300)


@pytest.fixture(scope="module")
def compiled(folder: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Compile from the shell into ``first``; return the seconds it took and what it printed."""
    begin = time.monotonic()
    command, hashes = [*AS_MODULE, *COMPILE, "-o", "first"], environment(PYTHONHASHSEED="0")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=hashes)
    return time.monotonic() - begin, done


def test_from_the_shell_a_network_compiles_in_reasonable_time(
    compiled: tuple[float, subprocess.CompletedProcess[str]], record_property: Callable[[str, object], None]
) -> None:
    """Informational: 20 seconds are the goal, and machines are noisy."""
    seconds, done = compiled
    assert (done.returncode, done.stderr) == (0, "")
    record_property("seconds", seconds)
    print(f"compile of the keyword-spotting network: {seconds:.1f} s")
    assert seconds < 60


@pytest.mark.usefixtures("compiled")
def test_another_process_with_other_hashes_writes_the_same_files_and_imports_no_foreign_intrinsics(
    folder: Path,
) -> None:
    """`tvm.s_tir.tensor_intrin` takes long to load; `tvm.s_tir._tensor_intrin` is something else."""
    program = (
        "import sys\nfrom tvm_tinyml.cli import main\ncode = main()\n"
        "print(*(name for name in sys.modules if name.startswith('tvm.s_tir.tensor_intrin')))\nsys.exit(code)"
    )
    done = python(program, folder, *COMPILE, "-o", "second", "-q", PYTHONHASHSEED="1")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")
    assert content(folder / "second") == content(folder / "first")


@pytest.mark.usefixtures("compiled")
def test_a_build_in_this_process_gives_the_same_files_too(folder: Path) -> None:
    """After other builds, whose traces must not show."""
    library("small").write(folder / "other")
    library("kws", emit="both").write(folder / "here")
    assert content(folder / "here") == content(folder / "first")


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("compile", "--help"), ("compile", "--fast")])
def test_what_needs_no_compiler_does_not_load_one(arguments: tuple[str, ...], folder: Path) -> None:
    program = (
        "import sys\nfrom tvm_tinyml.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit('tvm' in sys.modules)"
    )
    assert python(program, folder, *arguments).returncode == 0


def test_the_installed_command_and_the_module_are_the_same() -> None:
    command = Path(sys.executable).with_name("tvm-tinyml")
    if not command.exists():
        pytest.skip("the package is not installed: pip install -e .")
    printed = [
        subprocess.run([*c, "--version"], capture_output=True, text=True, env=environment(), check=True)
        for c in ([command], AS_MODULE)
    ]
    assert printed[0].stdout == printed[1].stdout
    assert (printed[0].stderr, printed[1].stderr) == ("", "")


@pytest.mark.parametrize("arguments", [("inspect", "kws.tflite"), ("run", "--help")])
def test_a_reader_that_has_gone_is_no_reason_for_a_traceback(arguments: tuple[str, ...], folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    process = start(*AS_MODULE, *arguments, cwd=folder, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


def test_a_full_disk_behind_the_output_is_one_message(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which Linux has")
    with Path("/dev/full").open("w") as full:
        process = start(*AS_MODULE, "--version", cwd=folder, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (2, "tvm-tinyml: No space left on device.\n")


def test_an_interrupt_from_the_keyboard_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """Also while TVM's own code runs, which makes another error of it."""
    (tmp_path / "kws.tflite").write_bytes(network("kws").data)
    program = (
        "import sys\nfrom tvm_tinyml import cli, frontend\nload = frontend.load\n"
        "def announced(*a, **k):\n    model = load(*a, **k)\n    print('loaded', flush=True)\n    return model\n"
        "frontend.load = announced\nsys.exit(cli.main())"
    )
    command = [sys.executable, "-c", program, *COMPILE, "-o", "new/out"]
    process = start(*command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == "loaded\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "tvm-tinyml: interrupted.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["kws.tflite"]


def test_rights_that_are_missing_are_seen_before_the_work() -> None:
    """As another user, where the tests run as the administrator."""
    program = (
        "import os, pathlib, tempfile\nfrom tvm_tinyml.artifacts.folder import check_folder, check_file\n"
        "from tvm_tinyml.errors import OutputError\n"
        "with tempfile.TemporaryDirectory() as name:\n"
        "    shut = pathlib.Path(name)\n    shut.chmod(0o555)\n    pid = os.fork()\n    if pid == 0:\n"
        "        if os.getuid() == 0:\n            os.setgid(65534)\n            os.setuid(65534)\n"
        "        for check, path in ((check_folder, shut / 'o'), (check_folder, shut), (check_file, shut / 'f')):\n"
        "            try:\n                check(path)\n"
        "            except OutputError as error:\n                print(str(error).replace(name, 'D'))\n"
        "        os._exit(print(end='', flush=True) or 0)\n"
        "    os.waitpid(pid, 0)\n    shut.chmod(0o755)\n"
    )
    done = python(program, ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    end = "cannot be written: there is no permission to write in 'D'."
    assert done.stdout.splitlines() == [
        f"Output folder 'D/o' {end}",
        f"Output folder 'D' {end}",
        f"Output file 'D/f' {end}",
    ]


def test_torch_is_imported_only_for_networks_of_torch(folder: Path) -> None:
    pytest.importorskip("torch")
    program = """
import sys
from tvm_tinyml.cli import main
main(["targets"])
assert "tvm" in sys.modules and "torch" not in sys.modules
import torch
torch.export.save(torch.export.export(torch.nn.Linear(8, 3), (torch.zeros(1, 8),)), "linear.pt2")
compiling = ["compile", "linear.pt2", "--target", "cortex-m4", "--quantize", "int8", "--calibration", "random"]
assert main([*compiling, "-o", "linear"]) == 0
"""
    done = python(program, folder)
    assert done.returncode == 0, done.stderr
