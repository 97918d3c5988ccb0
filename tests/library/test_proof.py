"""A plan that loses a byte is refused before anything is emitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

import tvm_tinyml as tinyml
from benchmarks.channel_blocks import inception_block
from benchmarks.networks import image_classification
from tests.image_networks import image_network
from tvm_tinyml import placement
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.plan_memory import plan_offsets
from tvm_tinyml.pipeline import lower_model
from tvm_tinyml.program import Program, Step
from tvm_tinyml.proof import prove
from tvm_tinyml.targets.cortex_m import cortex_m


def lower(network: Callable[[], object] = image_classification) -> Program:
    """Lower a network with all its tensors in the pool."""
    model = tinyml.load(network().data, name="m")  # type: ignore[attr-defined]
    return lower_model(model, cortex_m("cortex-m4"), BuildOptions(io="workspace"))


def proven(program: Program, steps: Sequence[Step]) -> None:
    """Replay calls of a program where they are placed."""
    first = Step("inputs", None, tuple(program.input_buffers), results=len(program.input_buffers))
    last = Step("outputs", None, tuple(program.output_buffers), results=0)
    calls = [first, *steps, last]
    prove(calls, calls, program.kernels, program.offset_bytes, program.workspace_bytes)


def test_a_part_of_channels_that_nothing_wrote_is_missed() -> None:
    """A kernel that writes channels of a wider tensor does not write those of the others."""
    program = lower(inception_block)
    proven(program, program.steps)
    parts = [step for step in program.steps if step.operands[-1].step_bytes]
    assert len(parts) == 4
    for part in parts:
        with pytest.raises(AssertionError, match=rf"reads byte {part.operands[-1].begin_bytes} of"):
            proven(program, [step for step in program.steps if step is not part])


def test_a_part_of_channels_written_to_the_place_of_another_is_refused() -> None:
    program = lower(inception_block)
    first, second, *_ = (step for step in program.steps if step.operands[-1].step_bytes)
    place = replace(second.operands[-1], begin_bytes=first.operands[-1].begin_bytes)
    moved = replace(second, operands=(*second.operands[:-1], place))
    with pytest.raises(AssertionError, match="reads byte"):
        proven(program, [moved if step is second else step for step in program.steps])


@pytest.mark.parametrize("seed", range(6))
def test_plans_of_random_networks_are_proven(seed: int) -> None:
    assert lower(lambda: image_network(seed)).workspace_bytes > 0


def test_a_tensor_moved_onto_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_at_the_beginning(*arguments: object) -> tuple[dict[int, int], int]:
        offsets, size = plan_offsets(*arguments)  # type: ignore[arg-type]
        return dict.fromkeys(offsets, 0), size

    monkeypatch.setattr(placement, "plan_offsets", all_at_the_beginning)
    monkeypatch.setattr(placement, "check_plan", lambda *_: None)
    with pytest.raises(AssertionError, match=r"reads|share bytes"):
        lower()


@pytest.mark.parametrize("by", [16, 512])
def test_an_overlap_closer_than_a_kernel_allows_is_refused(monkeypatch: pytest.MonkeyPatch, by: int) -> None:
    """Two of the network's distances are 512, the others larger or zero."""
    found = placement.distances_of
    monkeypatch.setattr(placement, "distances_of", lambda *a: {pair: max(d - by, 0) for pair, d in found(*a).items()})
    with pytest.raises(AssertionError, match=r"bytes behind the beginning of .*; it takes \d+"):
        lower()


def test_a_result_in_the_place_of_an_argument_that_is_read_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    share = placement.share

    def share_too_much(calls: placement.Calls, kernels: object) -> placement.Calls:
        shared = share(calls, kernels)  # type: ignore[arg-type]
        sum_ = next(step for step in shared.steps if step.name.startswith("add"))
        first = next(step for step in shared.steps if sum_.operands[0] in step.operands[-step.results :])
        after = shared.steps[shared.steps.index(first) + 1]
        result = after.operands[-1]
        moved = {(result.place, result.index): replace(sum_.operands[0], dtype=result.dtype)}
        return shared.moved(moved)

    monkeypatch.setattr(placement, "share", share_too_much)
    with pytest.raises(AssertionError, match=r"reads .*(it takes 512|where .* lies)|which it reads"):
        lower()
