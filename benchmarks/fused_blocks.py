"""Blocks with a sum or an average behind a convolution, as known networks have them; seeded random weights.

``python -m benchmarks.fused_blocks`` prints RAM, cycles and flash of each, with the two operators apart and as one,
and writes ``results/fused_blocks.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tvm_tinyml.tables import table

MEMORY = "l4r5zi-120"
RESULTS = Path(__file__).with_name("results") / "fused_blocks.json"
GOALS = ("balanced", "ram", "flash")
APART = ("tinyml.FuseAdds", "tinyml.FusePools")
"""Passes to leave out."""


def bottleneck(channels: int = 64, inner: int = 16, size: tuple[int, int] = (16, 16)) -> Network:
    """Build a residual block that is narrow inside: He et al., CVPR 2016, figure 5, in the groups of a ResNeXt."""
    graph = Int8Graph(0)
    x = graph.input((1, *size, channels), (0.05, 3))
    y = graph.conv(x, inner, (1, 1), activation="RELU")
    y = graph.conv(y, inner, (3, 3), groups=2, activation="RELU")
    return graph.finish("bottleneck", graph.add(x, graph.conv(y, channels, (1, 1)), activation="RELU"))


def wide_end(channels: int = 256, size: tuple[int, int] = (7, 7)) -> Network:
    """Build the end of a MobileNetV2: many channels, of each of which only the average is wanted."""
    graph = Int8Graph(0)
    x = graph.input((1, *size, 32), (0.05, 3))
    x = graph.conv(x, channels, (1, 1), activation="RELU6")
    return graph.finish("end", graph.dense(graph.mean(x, (1, 2)), 10))


BLOCKS: dict[str, Callable[[], Network]] = {"bottleneck": bottleneck, "wide end": wide_end}


def main() -> None:
    """Print the table; write all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append")
    parser.add_argument("--memory", default=MEMORY)
    options = parser.parse_args()
    rows = []
    for name, block in BLOCKS.items():
        model = tinyml.load(block().data, name="m")
        for target in options.target or ["cortex-m4", "cortex-m0plus", "cortex-m55"]:
            for goal in GOALS:
                figures = []
                for disabled in (APART, ()):
                    build = {"goal": goal, "io": "workspace", "emit": "lib", "disabled_passes": disabled}
                    library = tinyml.build(model, target, **build)
                    ram, flash = (library.metadata[f"{kind}_bytes"]["total"] for kind in ("ram", "flash"))
                    figures.append((ram, round(library.profile(memory=options.memory).cycles / 1000), flash))
                rows.append((name, target, goal, *(number for pair in zip(*figures, strict=True) for number in pair)))
    print(f"{options.memory}, inputs and outputs in the workspace")
    numbers = [f"{what}{when}" for what in ("RAM", "1000 cycles", "flash") for when in (" apart", "")]
    head = ("block", "target", "goal", *numbers)
    print(table(head, rows))
    if options.target is None and options.memory == MEMORY:
        RESULTS.write_text(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
