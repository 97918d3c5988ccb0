"""What commands print and write: nothing when quiet, only JSON when asked for it, whole folders or none."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import sys
import time
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.tflite_builder import TFLiteBuilder
from tests.cli.conftest import Refused, Run, content
from tests.library.builds import library, model, network
from tvm_tinyml import Library, api, benchmark, demo, verification
from tvm_tinyml.benchmark import bench
from tvm_tinyml.cli import main
from tvm_tinyml.device import ElfObject
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.layouts import layouts

SLOW_MEMORY = """
summary = "a serial flash"
clock_hz = 1_000_000
source = "made up for tests"

[data]
line_bytes = 16
lines = 1
miss_cycles = 40
next_miss_cycles = 40
source = "made up for tests"
"""

COMPILE = ("compile", "small.tflite", "--target", "cortex-m4", "-o")


def test_compile_says_what_it_made(here: Path, cli: Run) -> None:
    outcome = cli(*COMPILE, "new", "--name", "kws")
    metadata = library("small", called="kws").metadata
    ram, flash, kernels = (metadata[key] for key in ("ram_bytes", "flash_bytes", "kernels"))
    assert outcome == (
        0,
        "kws for cortex-m4: 1,080 multiply-accumulates\n"
        f"RAM    {ram['total']:,} bytes: workspace {ram['workspace']:,}, stack {ram['stack']:,}, static 0\n"
        f"tuned  {kernels['tuned']} of {kernels['total']} kernels\n"
        f"flash  {flash['total']:,} bytes: weights {flash['weights']:,}, code {flash['code']:,}\n"
        "files  new/: include, lib, src, metadata.json, report.html\n",
        "",
    )
    library("small", called="kws", emit="both").write("same")
    assert content(here / "new") == content(here / "same")


@pytest.mark.usefixtures("here")
def test_compile_says_how_many_bytes_start_up_code_copies(cli: Run) -> None:
    static = library("small", weights="ram").metadata["ram_bytes"]["static"]
    copied = f"copied {static:,} bytes of weights from flash to RAM, by start-up code\n"
    assert copied in cli(*COMPILE, "all", "--weights", "ram").out
    filled = ("--goal", "time", "--memory", "l4r5zi-120", "--ram-limit", "100000")
    assert copied in cli(*COMPILE, "filled", *filled).out
    assert "copied" not in cli(*COMPILE, "none", "--goal", "time", "--ram-limit", "100000").out


@pytest.mark.parametrize(
    ("form", "folders"), [("lib", {"include", "lib"}), ("c", {"include", "src"}), ("both", {"include", "lib", "src"})]
)
def test_only_the_form_that_is_asked_for_is_written(form: str, folders: set[str], here: Path, cli: Run) -> None:
    outcome = cli(*COMPILE, "new", "--emit", form)
    assert {p.name for p in (here / "new").iterdir()} == {*folders, "metadata.json", "report.html"}
    assert f"files  new/: {', '.join(sorted(folders))}, metadata.json, report.html\n" in outcome.out
    assert (here / "new" / "include" / "tvmgen_small.h").is_file()


@pytest.mark.usefixtures("here")
def test_quiet_prints_nothing(cli: Run) -> None:
    assert cli(*COMPILE, "new", "--quiet") == (0, "", "")
    assert cli(*COMPILE, "new", "-q", "--verify") == (0, "", "")
    assert cli("bench", "out", "-q", "--json", "figures.json") == (0, "", "")


@pytest.mark.usefixtures("here")
def test_json_on_the_output_is_only_json(cli: Run) -> None:
    printed = cli("bench", "out", "--json", "-")
    cli("bench", "out", "--json", "figures.json")
    assert json.loads(printed.out) == json.loads(Path("figures.json").read_text())
    assert (printed.code, printed.err) == (0, "")
    inspected = cli("inspect", "small.tflite", "--json")
    assert json.loads(inspected.out)["macs"] == 1080
    assert (inspected.code, inspected.err) == (0, "")


@pytest.mark.usefixtures("here")
def test_inspect_shows_layers_and_what_integers_mean(cli: Run) -> None:
    out = cli("inspect", "small.tflite").out
    assert "input input_0: int8 1x4x5x2, real = 0.5 * (integer - 3)\n" in out
    assert "conv2d_0  1x4x5x3  1,080" in out
    assert "operators               1 pad2d, 1 conv2d\n" in out or "operators               1 conv2d\n" in out


@pytest.mark.usefixtures("here")
def test_inspect_shows_the_layouts_of_a_target(cli: Run) -> None:
    command = ("inspect", "small.tflite", "--layouts", "--target", "cortex-m4", "--goal", "time")
    shown, printed = cli(*command), cli(*command, "--memory", "l4r5zi-120", "--json")
    assert (shown.code, shown.err, printed.code, printed.err) == (0, "", 0, "")
    found = json.loads(printed.out)
    assert found == layouts(library("small", goal="time", memory="l4r5zi-120"))
    assert shown.out.startswith(
        f"small on cortex-m4, goal time, cycles in memory zero-wait\nresults of layers: {len(found['layers'])} in NHWC;"
    )
    for layer in found["layers"]:
        assert f"\n{layer['name']} " in shown.out
        assert layer["algorithm"] in shown.out
    assert "matrix product of 4 pixels by 4 channels in pairs" in shown.out


def test_inspect_shows_what_was_compared(here: Path, cli: Run) -> None:
    (here / "ic.tflite").write_bytes(network("ic").data)
    out = cli("inspect", "ic.tflite", "--layouts", "--target", "cortex-m4", "--goal", "time").out
    (layer,) = (layer for layer in layouts(library("ic", goal="time"))["layers"] if layer["name"] == "conv2d_1")
    (taken, cycles), *others = layer["estimates"].items()
    line = next(line for line in out.split("what recipes compared")[1].splitlines() if line.startswith("conv2d_1 "))
    assert f"{taken}  " in line
    assert f"{cycles:,}" in line
    assert all(f"{way} {cost:,}" in line for way, cost in others)


def test_targets_are_those_that_compile_takes(cli: Run) -> None:
    out = cli("targets").out
    targets, memories = ([line.split()[0] for line in part.splitlines()[1:]] for part in out.split("\n\n"))
    assert targets == ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"]
    assert memories == ["l4r5zi-120", "nrf5340-128", "zero-wait"]
    assert "+nodsp +nofp" in out


@pytest.mark.usefixtures("here")
def test_bench_prints_every_layer_and_that_cycles_are_an_estimate(cli: Run) -> None:
    outcome = cli("bench", "small.tflite", "--target", "cortex-m0plus")
    assert outcome.code == 0
    for layer in library("small", "cortex-m0plus").metadata["layers"]:
        assert f"\n{layer['name']} " in outcome.out
    assert "reference     0 of 60 output bytes differ from tflite\n" in outcome.out
    assert "small on cortex-m0plus, memory zero-wait, simulated\n" in outcome.out
    assert outcome.out.endswith(
        f"Cycles are an estimate of timing model {MODEL_VERSION} for cortex-m0plus (never compared with a board); no "
        "board was measured. See docs/cycle-model.md.\n"
    )


@pytest.mark.usefixtures("here")
def test_bench_with_a_boards_memory_shows_the_time_and_what_its_flash_costs(cli: Run) -> None:
    outcome = cli("bench", "small.tflite", "--target", "cortex-m4", "--memory", "l4r5zi-120")
    figures = bench(library("small"), memory="l4r5zi-120")
    milliseconds = f"{figures['cycles'] / 120_000:.2f} ms at 120 MHz"
    assert f"{figures['cycles']:,}, " in outcome.out
    assert f"{milliseconds}, {figures['flash_stall_cycles']:,} of them flash\n" in outcome.out
    assert "flash waits\n" in outcome.out
    assert "(trust it to 15 %)" in outcome.out


def test_bench_takes_a_memory_that_a_file_describes(here: Path, cli: Run) -> None:
    (here / "slow.toml").write_text(SLOW_MEMORY)
    by_name = json.loads(cli("bench", "out", "--memory", "zero-wait", "--json", "-").out)
    by_file = json.loads(cli("bench", "out", "--memory", "slow.toml", "--json", "-").out)
    assert (by_file["memory"], by_file["clock_hz"]) == ("slow", 1_000_000)
    assert by_file["cycles"] == by_name["cycles"] + by_file["flash_stall_cycles"] > by_name["cycles"]
    compiled = cli("compile", "small.tflite", "--target", "cortex-m4", "-o", "slow", "--memory", "slow.toml")
    assert compiled.code == 0
    assert json.loads(cli("bench", "slow", "--json", "-").out) == by_file


@pytest.mark.usefixtures("here")
def test_a_memory_that_is_not_known_is_refused_with_a_hint(refused: Refused) -> None:
    assert "no memory named 'l4r5zi'. Did you mean 'l4r5zi-120'?" in refused("bench", "out", "--memory", "l4r5zi")
    assert "cannot read the memory" in refused("bench", "out", "--memory", "missing.toml")


@pytest.mark.usefixtures("here")
def test_bench_of_a_folder_gives_the_figures_of_the_model_without_its_reference(cli: Run) -> None:
    of_folder = json.loads(cli("bench", "out", "--target", "cortex-m4", "--json", "-").out)
    of_model = json.loads(cli("bench", "small.tflite", "--target", "cortex-m4", "--json", "-").out)
    assert of_model["reference"] == {"name": "tflite", "differing": 0, "of": 60}
    assert of_folder == {**of_model, "reference": None}


def tamper(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reference's answer have another first byte."""
    evaluate = module.evaluate

    def wrong(*arguments: Any) -> list[NDArray[Any]]:
        first, *others = evaluate(*arguments)
        first = first.copy()
        first.reshape(-1)[0] ^= 1
        return [first, *others]

    monkeypatch.setattr(module, "evaluate", wrong)


def test_verify_passes_on_a_right_library(here: Path, cli: Run) -> None:
    outcome = cli(*COMPILE, "new", "--verify")
    assert outcome.out.startswith("verified: 0 of 180 output bytes differ over 3 inputs\n")
    assert (outcome.code, outcome.err) == (0, "")
    assert (here / "new" / "metadata.json").is_file()


def test_verify_fails_when_bytes_differ_and_nothing_is_written(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(verification, monkeypatch)
    message = refused(*COMPILE, "new", "--verify", code=1)
    text = "tvm-tinyml: verification failed: 3 of 180 output bytes differ over 3 inputs. Nothing was written.\n"
    assert message == text


@pytest.mark.usefixtures("here")
def test_bench_fails_when_bytes_differ(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(benchmark, monkeypatch)
    outcome = cli("bench", "small.tflite", "--target", "cortex-m4")
    assert outcome.code == 1
    assert "reference     1 of 60 output bytes differ from tflite\n" in outcome.out


def test_a_library_with_another_weight_does_not_verify() -> None:
    """What is checked is the code that is shipped."""
    right = library("small", goal="flash")  # whose weights are bytes as in the model
    weights = next(
        section.data
        for data in right.objects
        for section in ElfObject.parse(data).sections
        if section.name == ".rodata.tvmgen_small_weights"
    )
    archive = bytearray(right.archive)
    (_, index, border_bytes, _) = right.metadata["layers"][0]["operands"][1]
    assert (index, right.metadata["layers"][1]["operands"][1][1:3]) == (0, [1, 54])
    first = border_bytes  # the convolution's 54 weights come next
    archive[right.archive.index(weights) + first] ^= 0x40
    wrong = Library(right.metadata, right.header, {}, bytes(archive))
    assert verification.verify(model("small"), right).differing == 0
    assert verification.verify(model("small"), wrong).differing > 0


@pytest.mark.parametrize("name", ["int", "run", "kws_run", "inputs", "_kws", "a__b", "Kws"])
def test_a_c_identifier_is_taken_as_it_is(name: str, here: Path, cli: Run) -> None:
    """A keyword is no danger: the name never stands alone."""
    assert cli(*COMPILE, "new", "--name", name, "-q").code == 0
    assert (here / "new" / "lib" / f"libtvmgen_{name}.a").is_file()
    header = (here / "new" / "include" / f"tvmgen_{name}.h").read_text()
    assert f"int32_t tvmgen_{name}_run(const struct tvmgen_{name}_inputs *inputs, " in header
    assert cli("run", "new", "--input", "x.npz").code == 0


def test_a_file_name_becomes_a_c_identifier(here: Path, cli: Run) -> None:
    Path("2nd model-v1.tflite").write_bytes((here / "small.tflite").read_bytes())
    outcome = cli("compile", "2nd model-v1.tflite", "--target", "cortex-m4", "-o", "new")
    assert outcome.out.startswith("model_2nd_model_v1 for cortex-m4: ")


def test_our_folder_is_replaced_whole(here: Path, cli: Run) -> None:
    (here / "out" / "src" / "old.o").write_text("built by hand")
    (here / "out" / "notes").mkdir()
    assert cli(*COMPILE, "out", "--name", "other", "--emit", "lib").code == 0
    library("small", called="other").write("fresh")
    assert content(here / "out") == content(here / "fresh")


def test_missing_parents_are_made_and_links_are_followed(here: Path, cli: Run) -> None:
    (here / "far").mkdir()
    (here / "link").symlink_to("far")
    assert cli(*COMPILE, "link/a/b", "-q").code == 0
    (here / "to_out").symlink_to("out")
    assert cli(*COMPILE, "to_out", "-q", "--name", "other").code == 0
    assert (here / "far" / "a" / "b" / "metadata.json").is_file()
    assert (here / "to_out").is_symlink()
    assert (here / "out" / "lib" / "libtvmgen_other.a").is_file()
    assert not (here / "out" / "lib" / "libtvmgen_small.a").exists()


def test_the_current_folder_can_be_the_output(here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "out")
    assert cli("compile", "../small.tflite", "--target", "cortex-m4", "-o", ".", "-q").code == 0
    assert Path("metadata.json").is_file()


@pytest.mark.parametrize("output", ["new/deep", "out"])
def test_a_write_that_fails_says_so_and_leaves_everything_as_it_was(
    output: str, refused: Refused, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        message = refused(*COMPILE, output)
    assert message == f"tvm-tinyml: Output folder '{output}' cannot be written: No space left on device.\n"
    assert cli(*COMPILE, output, "-q").code == 0


@pytest.mark.parametrize("moment", ["tvm_tinyml.frontend.load", "tvm_tinyml.api.compile_model", "os.replace"])
def test_an_interrupt_leaves_nothing_behind(moment: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    module, _, name = moment.rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, interrupt)
    assert refused(*COMPILE, "new/deep", code=130) == "tvm-tinyml: interrupted.\n"
    assert refused(*COMPILE, "out", code=130) == "tvm-tinyml: interrupted.\n"


@pytest.mark.parametrize("swallowed", [True, False], ids=["lost on the way", "made another error of"])
def test_an_interrupt_that_does_not_arrive_as_such_still_ends_the_command(
    swallowed: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As happens inside TVM. A schedule that was cut short must not become a library."""
    before, compile_model = content(here), api.compile_model

    def interrupted(*arguments: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt as error:
            os.write(2, b"a warning of TVM")
            if not swallowed:
                raise RuntimeError("of TVM") from error
        return compile_model(*arguments)

    monkeypatch.setattr(api, "compile_model", interrupted)
    assert main([*COMPILE, "new"]) == 130
    assert capfd.readouterr() == ("", "tvm-tinyml: interrupted.\n")
    assert content(here) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("here")
def test_a_terminal_that_lacks_a_letter_gets_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = TFLiteBuilder()
    x, y = (builder.tensor(name, (1, 4), "int8", scales=0.5) for name in ("Größe", "y"))
    builder.operator("RELU", [x], [y])
    Path("m.tflite").write_bytes(builder.finish([x], [y]))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main(["inspect", "m.tflite"]) == 0
    assert sys.stdout.buffer.getvalue().startswith(b"input Gr\\xf6\\xdfe: int8 1x4")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments", [("run", "out", "--input", "x.npz"), ("bench", "out"), (*COMPILE, "new", "--verify")]
)
def test_without_an_engine_the_device_is_in_trouble_and_says_what_to_install(
    arguments: tuple[str, ...], refused: Refused, without_engine: None
) -> None:
    message = refused(*arguments, code=3)
    assert "the simulator needs Unicorn, which is not installed" in message
    assert message.endswith("pip install tvm_tinyml[sim]\n")


@pytest.mark.usefixtures("here", "without_engine")
def test_compile_needs_no_engine(cli: Run) -> None:
    assert cli(*COMPILE, "new", "-q") == (0, "", "")


def test_the_demo_without_an_engine_writes_nothing(
    here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pictures = np.zeros((1, 1, 8, 8), np.float32), np.zeros(1, np.int64)
    content = resources.files(demo).joinpath(demo.MODEL).read_bytes()
    monkeypatch.setattr(demo, "digits", lambda: (content, *pictures))
    assert cli("demo", "-o", "new").code == 0
    assert (here / "new" / "include" / "tvmgen_digits.h").is_file()
    request.getfixturevalue("without_engine")
    outcome = cli("demo")
    assert (outcome.code, outcome.err.count("\n")) == (3, 1)
    assert not (here / "demo-out").exists()


def test_version_and_help_go_to_the_output(cli: Run) -> None:
    assert cli("--version").out.startswith("tvm-tinyml 0.")
    for command in ("inspect", "compile", "run", "bench", "targets", "demo"):
        outcome = cli(command, "--help")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"usage: tvm-tinyml {command} ")
