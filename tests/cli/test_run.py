"""``run``: arrays in, arrays out, and what is wrong with those that do not fit."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from tests.cli.conftest import Refused, Run
from tests.library.builds import library, network

Array = NDArray[Any]
SHAPE = (1, 4, 5, 2)
SCALE, ZERO_POINT = 0.5, 3


def run(cli: Run, folder: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """Run a library on arrays and return the arrays that it writes."""
    np.savez("in.npz", **arrays)
    outcome = cli("run", folder, "--input", "in.npz", "--output", "result.npz")
    assert outcome == (0, "", "")
    with np.load("result.npz") as file:
        return {name: file[name] for name in file.files}


def samples(count: int) -> Array:
    return np.random.default_rng(1).integers(-128, 128, (count, *SHAPE), np.int8)


def expected(inputs: Array) -> Array:
    """The reference's outputs, [samples, *shape]."""
    return np.stack([network("small").run([x])[0] for x in inputs])


@pytest.mark.usefixtures("here")
def test_one_array_may_have_any_name(cli: Run) -> None:
    x = samples(1)
    for name in ("input_0", "arr_0", "what I recorded"):
        (output,) = run(cli, "out", {name: x[0]}).values()
        np.testing.assert_array_equal(output, expected(x)[0])


@pytest.mark.usefixtures("here")
def test_without_an_output_file_json_is_printed_and_nothing_else(cli: Run) -> None:
    x = samples(1)
    np.savez("in.npz", x[0])
    outcome = cli("run", "out", "--input", "in.npz")
    (name,) = (tensor["name"] for tensor in library("small").metadata["outputs"])
    assert json.loads(outcome.out) == {name: expected(x)[0].tolist()}
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.usefixtures("here")
def test_samples_in_front_or_along_the_batch_come_back_as_they_went(cli: Run) -> None:
    x = samples(3)
    (leading,) = run(cli, "out", {"x": x}).values()
    np.testing.assert_array_equal(leading, expected(x))
    (along,) = run(cli, "out", {"x": x.reshape(3, *SHAPE[1:])}).values()
    np.testing.assert_array_equal(along, expected(x).reshape(3, *SHAPE[1:3], 3))


@pytest.mark.usefixtures("here")
def test_floats_are_quantized_with_the_scale_and_integers_are_taken_as_they_are(cli: Run) -> None:
    x = samples(1)[0]
    real = (x.astype(np.float32) - ZERO_POINT) * SCALE
    (as_floats,) = run(cli, "out", {"x": real}).values()
    (as_integers,) = run(cli, "out", {"x": x.astype(np.int64)}).values()
    np.testing.assert_array_equal(as_floats, expected(x[None])[0])
    np.testing.assert_array_equal(as_integers, expected(x[None])[0])


@pytest.mark.usefixtures("here")
def test_several_inputs_go_by_name(cli: Run) -> None:
    library("pair").write("pair")
    a, b = (np.random.default_rng(seed).integers(-128, 128, (2, 1, 6), np.int8) for seed in (1, 2))
    (output,) = run(cli, "pair", {"input_1": b, "input_0": a}).values()
    np.testing.assert_array_equal(output, [network("pair").run([p, q])[0] for p, q in zip(a, b, strict=True)])


def test_an_output_file_has_the_rights_that_the_user_grants_and_replaces_the_old_one(here: Path, cli: Run) -> None:
    (here / "plain").touch()
    (here / "result.npz").write_text("of yesterday")
    run(cli, "out", {"x": samples(1)})
    assert (here / "result.npz").stat().st_mode == (here / "plain").stat().st_mode


def test_a_device_as_output_stays_one(here: Path, cli: Run) -> None:
    assert cli("run", "out", "--input", "x.npz", "--output", "/dev/null") == (0, "", "")
    assert Path("/dev/null").is_char_device()


BAD_ARRAYS: dict[str, tuple[dict[str, Array], str]] = {
    "shape": (
        {"x": np.zeros((1, 4, 4, 2), np.int8)},
        "Input 'input_0' has shape [1, 4, 4, 2], the model takes [1, 4, 5, 2], with or without a leading dimension "
        "of samples.",
    ),
    "rank": (
        {"x": np.zeros(40, np.int8)},
        "Input 'input_0' has shape [40], the model takes [1, 4, 5, 2], with or without a leading dimension of samples.",
    ),
    "scalar": ({"x": np.array(1, np.int8)}, "Input 'input_0' has shape [], the model takes [1, 4, 5, 2]"),
    "no samples": (
        {"x": np.zeros((0, *SHAPE), np.int8)},
        "Input 'input_0' has shape [0, 1, 4, 5, 2]: 0 samples. Give 1 or more.",
    ),
    "no samples along the batch": (
        {"x": np.zeros((0, *SHAPE[1:]), np.int8)},
        "Input 'input_0' has shape [0, 4, 5, 2]: 0 samples. Give 1 or more.",
    ),
    "above the range": (
        {"x": np.full(SHAPE, 128, np.int16)},
        "Input 'input_0' holds integers from 128 to 128; int8 takes -128 to 127. Give int8, or floats to be quantized.",
    ),
    "below the range": (
        {"x": np.full(SHAPE, -129, np.int64)},
        "Input 'input_0' holds integers from -129 to -129; int8 takes -128 to 127.",
    ),
    "texts": (
        {"x": np.full(SHAPE, "a")},
        "Input 'input_0' is <U1, the model takes int8. Give int8, or floats to be quantized.",
    ),
    "truths": ({"x": np.full(SHAPE, True)}, "Input 'input_0' is bool, the model takes int8."),
    "complex": ({"x": np.full(SHAPE, 1j)}, "Input 'input_0' is complex128, the model takes int8."),
    "not finite": ({"x": np.full(SHAPE, np.nan)}, "Input 'input_0' holds values that are not finite."),
    "two for one": (
        {"x": np.zeros(SHAPE, np.int8), "input_0": np.zeros(SHAPE, np.int8)},
        "Inputs do not fit: the model has no input 'x'. The model takes 'input_0'.",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_does_not_fit_says_why(case: str, here: Path, refused: Refused) -> None:
    arrays, text = BAD_ARRAYS[case]
    np.savez(here / "bad.npz", **arrays)
    assert text in refused("run", "out", "--input", "bad.npz", "--output", "y.npz")
    with pytest.raises(tinyml.InputError, match=re.escape(text)):
        library("small").run(arrays)


BAD_PAIRS: dict[str, tuple[dict[str, Array], str]] = {
    "one is missing": (
        {"input_1": np.zeros((1, 6), np.int8)},
        "Inputs do not fit: there is no array for 'input_0'. The model takes 'input_0', 'input_1'.",
    ),
    "one is misspelt": (
        {"input_0": np.zeros((1, 6), np.int8), "inputs_1": np.zeros((1, 6), np.int8)},
        "Inputs do not fit: there is no array for 'input_1'; the model has no input 'inputs_1'. "
        "Did you mean 'input_1'? The model takes 'input_0', 'input_1'.",
    ),
    "one too many": (
        {name: np.zeros((1, 6), np.int8) for name in ("input_0", "input_1", "b")},
        "Inputs do not fit: the model has no input 'b'. The model takes 'input_0', 'input_1'.",
    ),
    "other numbers of samples": (
        {"input_0": np.zeros((3, 6), np.int8), "input_1": np.zeros((2, 1, 6), np.int8)},
        "Inputs have different numbers of samples: 'input_0' 3, 'input_1' 2. Give each the same.",
    ),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_arrays_that_do_not_fit_together_say_why(case: str, here: Path, refused: Refused) -> None:
    arrays, text = BAD_PAIRS[case]
    library("pair").write("pair")
    np.savez(here / "bad.npz", **arrays)
    assert text in refused("run", "pair", "--input", "bad.npz", "--output", "y.npz")
    with pytest.raises(tinyml.InputError, match=re.escape(text)):
        library("pair").run(arrays)


def test_an_array_alone_is_not_enough_for_two_inputs() -> None:
    text = "The model has 2 inputs: 'input_0', 'input_1'. Give arrays by these names."
    with pytest.raises(tinyml.InputError, match=text):
        library("pair").run(np.zeros((1, 6), np.int8))


def test_lists_of_unequal_length_are_no_array() -> None:
    with pytest.raises(tinyml.InputError, match="Input 'input_0' is no array of numbers: "):
        library("small").run({"input_0": [[1, 2], [3]]})


def damaged(path: Path) -> None:
    np.savez(path, x=np.zeros(SHAPE, np.int8))
    path.write_bytes(path.read_bytes()[:200])


def damaged_inside(path: Path) -> None:
    np.savez_compressed(path, x=np.random.default_rng(0).integers(-128, 128, SHAPE, np.int8))
    content = bytearray(path.read_bytes())
    content[70:90] = bytes(20)
    path.write_bytes(content)


def bare(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(SHAPE, np.int8))


def no_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not an array")


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (damaged, r"'bad\.npz' is damaged \(.+\)\. Save it again with numpy\.savez\."),
    "damaged inside": (damaged_inside, r"'bad\.npz' is damaged \(.+\)\. Save it again with numpy\.savez\."),
    "a bare array": (bare, r"'bad\.npz' holds one bare array\. Save it with numpy\.savez, as an \.npz file\."),
    "Python objects": (
        lambda path: np.savez(path, x=np.array([{}, None], object)),
        r"'bad\.npz' holds Python objects, which are not read\. Save arrays of numbers\.",
    ),
    "text": (lambda path: path.write_text("1,2,3\n"), r"'bad\.npz' is no \.npz file\. Save arrays with numpy\.savez\."),
    "nothing": (lambda path: path.touch(), r"'bad\.npz' is no \.npz file\. Save arrays with numpy\.savez\."),
    "a zip of something else": (no_array, r"'bad\.npz': 'readme\.txt' is no array\. Save arrays with numpy\.savez\."),
    "no array": (np.savez, r"'bad\.npz' holds no array\."),
    "a folder": (lambda path: path.mkdir(), r"'bad\.npz' cannot be read: Is a directory\."),
    "missing": (lambda path: None, r"'bad\.npz' cannot be read: No such file or directory\."),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_an_input_file_that_cannot_be_read_says_why(case: str, here: Path, refused: Refused) -> None:
    make, text = BAD_FILES[case]
    make(here / "bad.npz")
    assert re.search(f"Input file {text}", refused("run", "out", "--input", "bad.npz", "--output", "y.npz"))
