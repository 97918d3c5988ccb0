"""Bad input gives one clear message and exit code 2, and leaves no file behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import tvm_tinyml as tinyml
from benchmarks.onnx_networks import NETWORKS as ONNX_NETWORKS
from benchmarks.tflite_builder import TFLiteBuilder
from tests.cli.conftest import Refused
from tests.library.builds import library, model, network
from tvm_tinyml.options import OPTIONAL_PASSES

BUILD = ("--target", "cortex-m4", "-o", "new")


def unsupported() -> bytes:
    builder = TFLiteBuilder()
    tensors = [builder.tensor(name, (1, 4), "int8", scales=0.5) for name in "xyz"]
    builder.operator("FLOOR", tensors[:1], tensors[1:2])
    builder.operator("CEIL", tensors[1:2], tensors[2:])
    return builder.finish(tensors[:1], tensors[2:])


def dynamic() -> bytes:
    varying = onnx.ModelProto()
    varying.CopyFrom(ONNX_NETWORKS["cnn"](0).model)
    varying.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return varying.SerializeToString()


MODELS = {
    "cut.tflite": (
        lambda: network("small").data[:-100],
        r"'cut\.tflite': The TFLite file is damaged or cut off \(\d+ bytes\): .*\. Copy or export it again\.",
    ),
    "cut.onnx": (
        lambda: ONNX_NETWORKS["cnn"](0).model.SerializeToString()[:-100],
        r"'cut\.onnx' \(\d+ bytes\) is neither a TFLite nor an ONNX model, or it is damaged or cut off\. Pass a",
    ),
    "picture.tflite": (
        lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
        r"'picture\.tflite' \(208 bytes\) is neither a TFLite nor an ONNX model.* Pass a \.tflite or \.onnx file",
    ),
    "empty.onnx": (lambda: b"", r"'empty\.onnx' \(0 bytes\) has no operators\. Pass a \.tflite or \.onnx file\."),
    "operator.tflite": (
        unsupported,
        r"'operator\.tflite': .*not supported: FLOOR 'y', CEIL 'z'\. Supported: ABS, ADD, ",
    ),
    "dynamic.onnx": (dynamic, r"'dynamic\.onnx': Input 'input': dimension 2 \(height\) is not fixed"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("command", ["compile", "inspect", "bench"])
def test_a_model_that_cannot_be_compiled_says_why(name: str, command: str, here: Path, refused: Refused) -> None:
    make, text = MODELS[name]
    Path(name).write_bytes(make())
    options = {"compile": BUILD, "inspect": (), "bench": BUILD[:2]}[command]
    assert re.search(text, refused(command, name, *options))
    with pytest.raises(tinyml.ModelError, match=text):
        tinyml.load(name)


def test_a_model_that_is_not_there(refused: Refused) -> None:
    message = refused("compile", "none.tflite", *BUILD)
    assert message == "tvm-tinyml: Model file 'none.tflite' cannot be read: No such file or directory.\n"
    with pytest.raises(tinyml.ModelError, match=r"'none\.tflite' cannot be read: No such file"):
        tinyml.load("none.tflite")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("cortex-m5", "There is no target named 'cortex-m5'. Did you mean 'cortex-m"),
        ("cortexm4", "There is no target named 'cortexm4'. Did you mean 'cortex-m4'? Known: cortex-m0plus, "),
        ("M4", "There is no target named 'M4'. Known: cortex-m0plus, "),
        ("cortex-m3+nofp", "Target 'cortex-m3+nofp': cortex-m3 does not take '+nofp'. It takes: none."),
        ("cortex-m4+dsp", "Target 'cortex-m4+dsp': cortex-m4 does not take '+dsp'. It takes: +nodsp, +nofp."),
        ("", "There is no target named ''."),
    ],
)
def test_a_wrong_target_offers_the_nearest(target: str, text: str, refused: Refused) -> None:
    assert text in refused("compile", "small.tflite", "-o", "new", "--target", target)
    with pytest.raises(tinyml.TargetError, match=re.escape(text)):
        tinyml.build(model("small"), target)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("goal", "tiem", "Option goal does not take 'tiem'. Did you mean 'time'? Known: time, balanced, ram, flash."),
        ("io", "pool", "Option io does not take 'pool'. Known: caller, workspace."),
        ("weights", "rom", "Option weights does not take 'rom'. Did you mean 'ram'? Known: flash, ram."),
        ("emit", "object", "Option emit does not take 'object'. Known: lib, c, both."),
        ("float_abi", "softf", "There is no float ABI named 'softf'. Known: hard, softfp, soft."),
    ],
)
def test_a_wrong_value_is_told_the_right_ones(option: str, value: str, text: str, refused: Refused) -> None:
    assert text in refused("compile", "small.tflite", *BUILD, f"--{option.replace('_', '-')}", value)
    with pytest.raises(tinyml.TargetError, match=re.escape(text)):
        tinyml.build(model("small"), **{option: value})


def test_layouts_of_a_wrong_target_offer_the_nearest(refused: Refused) -> None:
    assert "Did you mean 'cortex-m4'?" in refused("inspect", "small.tflite", "--layouts", "--target", "cortexm4")


def test_a_float_abi_that_the_core_lacks(refused: Refused) -> None:
    text = "Float ABI 'hard' needs an FPU, and 'cortex-m3' has none. Use --float-abi soft."
    arguments = ("--target", "cortex-m3", "-o", "new", "--float-abi", "hard")
    assert text in refused("compile", "small.tflite", *arguments)


@pytest.mark.parametrize("name", ["ApplySchedules", "tinyml.ApplySchedule"])
def test_an_unknown_pass_offers_the_nearest(name: str, refused: Refused) -> None:
    optional = ", ".join(OPTIONAL_PASSES)
    text = f"Pass '{name}' cannot be disabled. Did you mean 'tinyml.ApplySchedules'? Optional passes: {optional}."
    assert text in refused("compile", "small.tflite", *BUILD, "--disable-pass", name)
    with pytest.raises(tinyml.TargetError, match=re.escape(text)):
        tinyml.build(model("small"), disabled_passes=[name])


def test_a_pass_that_is_needed_cannot_be_disabled(refused: Refused) -> None:
    message = refused("compile", "small.tflite", *BUILD, "--disable-pass", "tinyml.FoldQuantization")
    assert "Pass 'tinyml.FoldQuantization' cannot be disabled." in message


def test_passes_are_a_list() -> None:
    with pytest.raises(tinyml.TargetError, match=r"takes a list of names. Give \['tinyml.ApplySchedules'\]"):
        tinyml.build(model("small"), disabled_passes="tinyml.ApplySchedules")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("my-model", "my_model"), ("3d", "model_3d"), ("", "model"), ("größe", "gr_e"), ("a b", "a_b"), ("kws\n", "kws")],
)
def test_a_name_that_is_no_c_identifier_offers_one(name: str, nearest: str, refused: Refused) -> None:
    message = refused("compile", "small.tflite", *BUILD, "--name", name)
    assert f"Name {name!r} is no C identifier" in message
    assert message.endswith(f"Did you mean '{nearest}'?\n")
    with pytest.raises(tinyml.ModelError, match=f"Did you mean '{nearest}'"):
        tinyml.load(network("small").data, name=name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "the following arguments are required: COMMAND. See tvm-tinyml --help."),
        (("complie", "small.tflite"), "invalid choice: 'complie' (choose from "),
        (("compile", "small.tflite", "-o", "new"), "compile: the following arguments are required: --target. See"),
        (("compile", "small.tflite", "--target", "cortex-m4"), "arguments are required: -o/--output. See"),
        (("compile", *BUILD), "compile: the following arguments are required: MODEL. See tvm-tinyml compile --help."),
        (
            ("compile", "small.tflite", "-o", "new", "--taget", "cortex-m4"),
            "compile: there is no option --taget. Did you mean '--target'? See tvm-tinyml compile --help.",
        ),
        (("compile", "small.tflite", *BUILD, "--zzz"), "compile: there is no option --zzz. See"),
        (("compile", "small.tflite", *BUILD, "--pool", "sram"), "'sram' is not NAME=BYTES, such as dtcm=65536"),
        (("compile", "small.tflite", *BUILD, "--out=x"), "there is no option --out. Did you mean '--output'? See"),
        (("compile", "small.tflite", *BUILD, "-x"), "compile: there is no place for '-x'. See"),
        (("compile", "small.tflite", "pair.tflite", *BUILD), "compile: there is no place for 'pair.tflite'. See"),
        (
            ("compile", "small.tflite", "--target", "cortex-m4", "-o", ""),
            "argument -o/--output: the path is empty. See",
        ),
        (("inspect", ""), "inspect: argument MODEL: the path is empty. See tvm-tinyml inspect --help."),
        (("inspect", "small.tflite", "--layouts"), "inspect --layouts needs --target, such as --target cortex-m4."),
        (("inspect", "small.tflite", "--target", "cortex-m4"), "inspect takes --target only with --layouts: what a"),
        (
            ("inspect", "small.tflite", "--disable-pass", "x"),
            "inspect takes --disable-pass only with --layouts: what a",
        ),
        (("run", "out"), "run: the following arguments are required: --input. See"),
        (("bench", "small.tflite"), "bench of a model needs --target, such as --target cortex-m4."),
        (
            ("compile", "small.tflite", *BUILD, "--verify", "--emit", "c"),
            "--verify runs the object form, and --emit c makes none. Use --emit lib or --emit both.",
        ),
    ],
)
def test_wrong_use_is_said_in_one_line(arguments: tuple[str, ...], text: str, refused: Refused) -> None:
    assert text in refused(*arguments)


def test_an_output_folder_that_is_not_ours_is_left_alone(here: Path, refused: Refused) -> None:
    (here / "new").mkdir()
    (here / "new" / "thesis.tex").write_text("years of work")
    (here / "new" / "metadata.json").write_text('{"model": "of someone else"}')
    text = (
        "Output folder 'new' exists and was not written by tvm-tinyml (entries: 2, metadata.json, thesis.tex; "
        "no metadata.json of ours). Choose another folder with -o, or empty it."
    )
    assert text in refused("compile", "small.tflite", *BUILD)
    with pytest.raises(tinyml.OutputError, match=re.escape(text)):
        library("small").write("new")
    assert (here / "new" / "thesis.tex").read_text() == "years of work"


def test_an_output_folder_that_is_a_file(here: Path, refused: Refused) -> None:
    (here / "new").write_text("a file")
    assert "Output folder 'new' is a file. Choose another folder with -o." in refused("compile", "small.tflite", *BUILD)
    with pytest.raises(tinyml.OutputError, match="Output folder 'new' is a file"):
        library("small").write("new")


def test_an_output_folder_below_a_file(here: Path, refused: Refused) -> None:
    message = refused("compile", "small.tflite", "--target", "cortex-m4", "-o", "x.npz/new")
    assert f"Output folder 'x.npz/new' cannot be written: '{here / 'x.npz'}' is a file." in message


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("compile", "small.tflite", "--target", "cortex-m4", "-o", "shut/a/b"), "Output folder 'shut/a/b'"),
        (("compile", "small.tflite", "--target", "cortex-m4", "-o", "shut"), "Output folder 'shut'"),
        (("run", "out", "--input", "x.npz", "--output", "shut/y.npz"), "Output file 'shut/y.npz'"),
        (("bench", "out", "--json", "shut/y.json"), "Output file 'shut/y.json'"),
    ],
)
def test_a_folder_that_cannot_be_written(
    arguments: tuple[str, ...], what: str, here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = here / "shut"
    shut.mkdir()
    # The administrator may write everywhere, so that taking the right away would show nothing.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shut and access(path, mode))
    text = f"{what} cannot be written: there is no permission to write in '{shut}'."
    assert text in refused(*arguments)


@pytest.mark.parametrize("arguments", [("run", "out", "--input", "x.npz", "--output"), ("bench", "out", "--json")])
def test_an_output_file_that_cannot_be(arguments: tuple[str, ...], refused: Refused) -> None:
    assert "Output file 'none/y' cannot be written: make the folder 'none' first." in refused(*arguments, "none/y")
    assert "Output file 'out' is a folder. Name a file." in refused(*arguments, "out")


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("none", "There is no folder 'none'. Give a folder that compile wrote."),
        ("small.tflite", "'small.tflite' is a file. Give a folder that compile wrote."),
        (".", "'.' is not an output folder of tvm-tinyml: it has no metadata.json of ours."),
    ],
)
def test_a_library_that_is_none(folder: str, text: str, refused: Refused) -> None:
    assert text in refused("run", folder, "--input", "x.npz")
    with pytest.raises(tinyml.InputError, match=re.escape(text)):
        tinyml.Library.read(folder)


@pytest.mark.parametrize("file", ["lib/libtvmgen_small.a", "include/tvmgen_small.h"])
def test_a_library_that_lacks_a_file(file: str, here: Path, refused: Refused) -> None:
    (here / "out" / file).unlink()
    text = f"Library 'out' is incomplete: '{Path('out', file)}': No such file or directory. Compile the model again."
    assert text in refused("run", "out", "--input", "x.npz")


def test_a_library_whose_archive_is_damaged(here: Path, refused: Refused) -> None:
    archive = here / "out" / "lib" / "libtvmgen_small.a"
    archive.write_bytes(archive.read_bytes()[:-500])
    assert "Library 'out' has a damaged archive: " in refused("run", "out", "--input", "x.npz")
    assert "Library 'out' has a damaged archive: " in refused("bench", "out")


def test_a_library_of_another_version_says_which(here: Path, refused: Refused) -> None:
    (here / "out" / "metadata.json").write_text('{"model": "m", "target": "t", "layers": [], "version": "0.0.1"}')
    message = refused("bench", "out")
    assert "'out' was written by version 0.0.1: its metadata.json has no constants, flash_bytes, " in message
    assert message.endswith("Compile the model again.\n")


def test_a_library_without_objects_does_not_run(here: Path, refused: Refused) -> None:
    library("small", emit="c").write("c")
    text = "The library of 'small' has no object form to run. Compile it with --emit lib or --emit both."
    assert text in refused("run", "c", "--input", "x.npz")
    with pytest.raises(tinyml.InputError, match=re.escape(text)):
        library("small", emit="c").profile()


@pytest.mark.parametrize("command", [("run", "out", "--input", "x.npz"), ("bench", "out")])
def test_an_unknown_device(command: tuple[str, ...], refused: Refused) -> None:
    assert "There is no device named 'smi'. Did you mean 'sim'? Known: sim, qemu." in refused(*command, "--on", "smi")
    with pytest.raises(tinyml.InputError, match="There is no device named 'smi'"):
        library("small").run(np.zeros((1, 4, 5, 2), np.int8), on="smi")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--target", "cortex-m3"), "'out' was compiled with target 'cortex-m4', and 'cortex-m3' is asked for."),
        (("--pool", "sram=5"), "'out' was compiled with pools none, and sram=5 is asked for."),
        (("--goal", "flash"), "'out' was compiled with goal 'balanced', and 'flash' is asked for."),
        (("--io", "workspace"), "'out' was compiled with io 'caller', and 'workspace' is asked for."),
        (("--float-abi", "soft"), "'out' was compiled with float_abi 'hard', and 'soft' is asked for."),
        (("--disable-pass", "a"), "'out' was compiled with disabled_passes none, and a is asked for."),
    ],
)
def test_bench_of_a_folder_does_not_take_what_it_was_not_built_for(
    options: tuple[str, ...], text: str, refused: Refused
) -> None:
    assert text in refused("bench", "out", *options)
