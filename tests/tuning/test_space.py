"""What there is to choose for an operator, and what can be made of a choice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.tuning.networks import TARGET, convolution, dense
from tvm_tinyml.choice import KERNEL, is_as_chosen, knobs_of
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.measure import Job, Measured, measure_safely
from tvm_tinyml.tuning.space import Choices, Kernels
from tvm_tinyml.tuning.workload import Workload

SPACES = Choices({"A": {"x": [1, 2, 3], "y": ["a", "b"]}, "B": {"x": [4]}, "C": {}})

OPERATORS: dict[str, Callable[[], Workload]] = {
    "conv": lambda: convolution((1, 8, 8, 8), 8),
    "wide conv": lambda: convolution((1, 12, 12, 16), 16, activation="RELU"),
    "strided": lambda: convolution((1, 9, 9, 3), 6, strides=(2, 2), padding="VALID"),
    "grouped": lambda: convolution((1, 8, 8, 8), 8, groups=2),
    "few pixels": lambda: convolution((1, 1, 3, 8), 8, (1, 1)),
    "depthwise": lambda: convolution((1, 9, 8, 6), depthwise=True, activation="RELU"),
    "dilated depthwise": lambda: convolution((1, 9, 8, 4), depthwise=True, dilation=(2, 2)),
    "dense": dense,
    "rows": lambda: dense(rows=6),
}


def test_every_choice_is_one_and_there_are_so_many() -> None:
    every = list(SPACES.every())
    assert len(every) == SPACES.size == 8
    assert len({str(choice) for choice in every}) == 8
    assert all(SPACES.has(choice) for choice in every)


def test_a_choice_may_leave_knobs_to_its_kernel_and_must_not_make_any_up() -> None:
    assert SPACES.has({KERNEL: "A"})
    assert SPACES.has({KERNEL: "A", "y": "b"})
    for wrong in ({KERNEL: "D"}, {KERNEL: "A", "x": 4}, {KERNEL: "A", "z": 1}, {KERNEL: "C", "x": 1}, {"x": 1}):
        assert not SPACES.has(wrong)


def test_what_two_operators_have_in_common_is_what_both_have() -> None:
    other = Choices({"C": {}, "A": {"x": [3, 2, 7], "y": ["b"]}, "B": {"x": [5]}, "D": {"x": [1]}})
    common = SPACES.common(other)
    assert common.spaces == {"A": {"x": [2, 3], "y": ["b"]}, "C": {}}
    assert [*common.every()] == [choice for choice in SPACES.every() if other.has(choice)]


@pytest.mark.parametrize("name", OPERATORS)
def test_what_is_done_without_a_choice_is_one(name: str) -> None:
    workload = OPERATORS[name]()
    outcome = measure_safely(Job(workload, TARGET, None))
    assert isinstance(outcome, Measured)
    choices = Kernels(cortex_m(TARGET), "time").choices(workload.call)
    assert choices.has(outcome.choice)
    assert {*outcome.choice} == {KERNEL, *choices.spaces[str(outcome.choice[KERNEL])]}, "it is decided in full"
    assert measure_safely(Job(workload, TARGET, outcome.choice)).choice == outcome.choice  # and can be asked for


@pytest.mark.parametrize("name", OPERATORS)
def test_choices_give_right_kernels_or_none(name: str) -> None:
    """Of each kernel some choices: each is refused before it is compiled, or computes the reference's bytes."""
    workload, kernels = OPERATORS[name](), Kernels(cortex_m(TARGET), "time")
    choices = kernels.choices(workload.call)
    every = list(choices.every())
    for choice in random.Random(name).sample(every, min(5, len(every))):
        kernel, outcome = kernels.lower(workload.call, choice), measure_safely(Job(workload, TARGET, choice))
        if isinstance(outcome, Measured):
            assert outcome.choice == choice
            assert kernel is not None
        else:
            assert outcome.reason == "impossible", outcome


@pytest.mark.parametrize("name", ["conv", "depthwise", "tall depthwise"])
def test_with_less_scratch_a_kernel_does_what_it_is_told_or_nothing(name: str) -> None:
    """One that did less at once than it is told would be another choice."""
    make = {**OPERATORS, "tall depthwise": lambda: convolution((1, 48, 24, 8), depthwise=True)}[name]
    workload, narrow = make(), Kernels(cortex_m(TARGET), "ram")
    rules = {rule.name for rule in cortex_m(TARGET).rules}
    choices = Kernels(cortex_m(TARGET), "time").choices(workload.call)
    every = [choice for choice in choices.every() if choice[KERNEL] not in rules]
    made = {}
    for choice in random.Random(name).sample(every, min(30, len(every))):
        kernel = narrow.lower(workload.call, choice)
        if kernel is not None:
            assert is_as_chosen(kernel.knobs, knobs_of(choice))
            made[str(choice)] = kernel
    assert len(made) < 30 if name != "depthwise" else made


def test_a_knob_that_nobody_has_is_refused() -> None:
    workload, kernels = convolution(), Kernels(cortex_m(TARGET), "time")
    assert not kernels.choices(workload.call).has({KERNEL: "ConvGemm", "tiles": 9999})
    for wrong in ({KERNEL: "ConvGemm", "tiles": 9999}, {KERNEL: "Nobody"}, {}):
        assert kernels.lower(workload.call, wrong) is None
