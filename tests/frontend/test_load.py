"""One entry for all formats: what a source is, what it is called, and what is no model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

from tests import onnx_models, tflite_models
from tests.frontend.evaluator import evaluate
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.frontend.qdq import QdqBuilder, Quantization, identifier

TFLITE = tflite_models.MODELS["relu"](0).data
ONNX = onnx_models.MODELS["relu"](0).model


def test_content_says_what_a_file_is_and_its_stem_what_it_is_called(tmp_path: Path) -> None:
    for name, content, reference in [
        ("my-model.onnx", TFLITE, "tflite"),
        ("my-model.tflite", ONNX.SerializeToString(), "onnx"),
        ("model", ONNX.SerializeToString(), "onnx"),
    ]:
        (tmp_path / name).write_bytes(content)
        for source in (tmp_path / name, str(tmp_path / name)):
            model = load(source)
            assert model.reference == reference
            assert model.name == identifier(Path(name).stem, "model")


def test_bytes_and_models_in_memory() -> None:
    assert load(TFLITE).reference == "tflite"
    assert load(ONNX.SerializeToString()).reference == "onnx"
    assert load(ONNX).name == "model"
    assert load(ONNX, name="kws").name == "kws"


@pytest.mark.parametrize(
    ("text", "name"),
    [("kws_ref", "kws_ref"), ("my-model v2", "my_model_v2"), ("3d", "model_3d"), ("größe", "gr_e"), ("__", "model")],
)
def test_names_become_c_identifiers(text: str, name: str) -> None:
    assert identifier(text, "model") == name


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.tflite' cannot be read: No such file"):
        load(tmp_path / "none.tflite")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" + bytes(range(200)), b"a text, no model\n" * 20, bytes(1000), b"\xff" * 1000],
    ids=["empty", "short", "png", "text", "zeros", "ones"],
)
def test_what_is_no_model_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "picture.tflite"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"picture\.tflite' \(\d+ bytes\) (is neither|has no operators).*Pass a"):
        load(file)


def test_an_onnx_file_cut_off_anywhere_is_a_clear_error() -> None:
    content = ONNX.SerializeToString()
    for length in range(len(content)):
        with pytest.raises(ModelError, match=r"damaged|has no operators|has opset none"):
            load(content[:length])


def test_a_damaged_onnx_file_never_fails_otherwise(rng: np.random.Generator) -> None:
    for kind in ("conv", "gemm", "concat", "resize", "reduce_mean"):
        content = onnx_models.MODELS[kind](0).model.SerializeToString()
        for _ in range(100):
            damaged = bytearray(content)
            damaged[int(rng.integers(len(content)))] = int(rng.integers(256))
            with suppress(ModelError):
                load(bytes(damaged))


def test_constants_in_a_missing_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "split.onnx"
    model = onnx_models.MODELS["conv"](0).model
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load(file).reference == "onnx"
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"split\.onnx': constants in a file of their own cannot be read"):
        load(file)


def test_moving_operators_work_on_integers_in_tvm() -> None:
    """The canonical form uses Relax's own operators on int8: TVM builds them and means the same by them."""
    builder = QdqBuilder("tflite")
    x = builder.input("x", (1, 4, 6, 3), "int8", Quantization(0.5, -7))
    y = builder.move(lambda e: relax.op.nn.pad(e, [0, 0, 1, 2, 0, 1, 0, 0], pad_value=-7), x, name="pad")
    modes = [("asymmetric", "floor"), ("half_pixel", "round_prefer_ceil"), ("align_corners", "round_prefer_ceil")]
    parts = [
        builder.move(
            lambda e, mode=mode, rounding=rounding: relax.op.image.resize2d(
                e,
                relax.ShapeExpr([5, 11]),
                layout="NHWC",
                method="nearest_neighbor",
                coordinate_transformation_mode=mode,
                rounding_method=rounding,
            ),
            y,
            name=mode,
        )
        for mode, rounding in modes
    ]
    z = builder.move(lambda *es: relax.op.concat(es, 3), *parts, name="concat")
    first, second = builder.split(z, [4, 5], 3, ["first", "second"])
    second = builder.permute(second, (0, 3, 1, 2), "second_nchw")
    second = builder.move(lambda e: relax.op.strided_slice(e, [2, 3], [1, 0], [5, 10], [2, 3]), second, name="slice")
    builder.output("first", first, "int8")
    builder.output("second", builder.reshape(second, (5, 8), "rows"), "int8")
    model = builder.finish("moving")

    values = np.random.default_rng(0).integers(-128, 128, (1, 4, 6, 3)).astype(np.int8)
    machine = relax.VirtualMachine(tvm.compile(model.module, "llvm"), tvm.cpu())
    results = machine["main"](tvm.runtime.tensor(values))
    for computed, expected in zip(results, evaluate(model.module, [values]), strict=True):
        np.testing.assert_array_equal(computed.numpy(), expected)
