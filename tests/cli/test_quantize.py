"""Float models on the command line: quantized with samples, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.int8_graph import Int8Graph
from tests.cli.conftest import Refused, Run
from tests.float_models import float_tflite
from tests.simulated import needs_simulator


@pytest.fixture
def there(here: Path) -> Path:
    """Return the current folder, with a float model and samples for it."""
    graph = Int8Graph(0, samples=2)
    x = graph.conv(graph.input((1, 6, 5, 3), (0.05, -4)), 32, (3, 3), activation="RELU")
    Path("float.tflite").write_bytes(float_tflite(graph.finish("float", graph.conv(x, 32, (1, 1))).data))
    rng = np.random.default_rng(0)
    np.savez("samples.npz", any_name=rng.normal(size=(20, 1, 6, 5, 3)).astype(np.float32), labels=np.arange(20))
    return here


COMPILE = ("compile", "float.tflite", "--target", "cortex-m4", "-o", "made")


@needs_simulator
@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("recipe", ["int8", "int16x8", "w4", "mixed:80%"])
def test_a_float_model_is_quantized_compiled_and_computes_its_integers(cli: Run, recipe: str) -> None:
    how = ("--calibration", "samples.npz", "--quantize", recipe, "--observer", "min-max")
    made = cli(*COMPILE, *how, "--verify", "-v")
    assert made.code == 0, made.err
    assert made.out.startswith("verified: 0 of ")
    assert f"quantized {recipe}: " in made.out
    assert "20 calibration samples" in made.out
    assert "clipped, %" in made.out
    assert '"recipe": "' + recipe in Path("made/metadata.json").read_text()
    assert '<section id="quantization">' in Path("made/report.html").read_text()


@needs_simulator
@pytest.mark.usefixtures("there")
def test_random_samples_say_what_they_are(cli: Run) -> None:
    made = cli("bench", "float.tflite", "--target", "cortex-m4", "--calibration", "random")
    assert made.code == 0
    assert "what the network computes is not to be used" in made.err
    assert "0 of 960 output bytes differ" in made.out


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (COMPILE, "This is a float network"),
        ((*COMPILE, "--quantize", "int8"), "needs samples of its inputs"),
        ((*COMPILE, "--quantize", "int4", "--calibration", "samples.npz"), "There is no recipe 'int4'"),
        ((*COMPILE, "--calibration", "none.npz"), "'none.npz' cannot be read"),
        ((*COMPILE, "--calibration", "x.npz"), "has shape [1, 4, 5, 2], the model takes [1, 6, 5, 3]"),
        ((*COMPILE, "--calibration", "samples.npz", "--observer", "best"), "There is no observer 'best'"),
        ((*COMPILE, "--observer", "mse"), "--observer is for float models: it needs --calibration"),
        ((*COMPILE, "--narrow", "group"), "--narrow is for float models: it needs --calibration"),
        ((*COMPILE, "--calibration", "samples.npz", "--narrow", "groups"), "There is no narrow 'groups'. Did you mean"),
        ((*COMPILE, "--calibration", "samples.npz", "--quantize", "mixed:10"), "no way to keep to weights of 10: "),
        ((*COMPILE, "--calibration", "samples.npz", "--accuracy-on", "x.npz"), "'x.npz' has no array 'labels'"),
        (("compile", "small.tflite", *COMPILE[2:], "--calibration", "x.npz"), "'small' is quantized already"),
        (("bench", "out", "--calibration", "x.npz"), "'out' is compiled: --calibration is for a float model"),
        (("bench", "out", "--accuracy-on", "x.npz"), "'out' is compiled: --accuracy-on is for a float model"),
        (("inspect", "float.tflite"), "This is a float network"),
    ],
)
def test_what_makes_no_sense_is_one_line(refused: Refused, arguments: tuple[str, ...], text: str) -> None:
    assert text in refused(*arguments)


@pytest.mark.usefixtures("there")
def test_a_terminal_shows_how_far_it_is(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    how = (*COMPILE, "--calibration", "samples.npz", "--observer", "min-max")
    assert cli(*how).err == ""
    monkeypatch.setattr("tvm_tinyml.cli.common.is_terminal", lambda: True)
    shown = cli(*how).err
    assert "\rquantizing: histograms 0/2\033[K" in shown
    assert shown.endswith("\r\033[K")
    assert cli(*how, "-q").err == ""
