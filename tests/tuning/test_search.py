"""MetaSchedule's search with our rules: it proposes choices, each once, better ones with a better model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm.s_tir import meta_schedule as ms

from tvm_tinyml.choice import KERNEL, Choice, Space, text_of
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning.metaschedule import EvolutionarySearch
from tvm_tinyml.tuning.space import Choices

LLVM = cortex_m("cortex-m4").llvm

Cost = Callable[[Choice], "int | None"]
"""Cycles of a choice, or None where there is no kernel."""

SMALL = Choices({"A": {"x": [*range(10)], "y": ["a", "b", "c"]}, "B": {"z": [1, 2, 3, 4, 5]}, "C": {}})
LARGE = Choices({"A": {name: [*range(8)] for name in "abcde"}, "B": {"z": [*range(20)]}})


def cost_of_small(choice: Choice) -> int | None:
    match choice[KERNEL]:
        case "A":
            return 100 + 10 * abs(int(choice["x"]) - 7) + 5 * (choice["y"] != "b")
        case "B":
            return 150 - int(choice["z"])
    return None


def cost_of_large(choice: Choice) -> int:
    """300 at least, where each knob has its own best value; the other kernel is worse."""
    if choice[KERNEL] == "B":
        return 900 + int(choice["z"])
    return 300 + 20 * sum(abs(int(choice[name]) - best) for name, best in zip("abcde", (1, 6, 3, 0, 5), strict=True))


def knowing(cost: Cost) -> Callable[[Sequence[Choice]], NDArray[np.float64]]:
    """Return a model that knows what everything costs."""
    return lambda choices: np.log([(cost(choice) or 1000) / 100 for choice in choices])


def ignorant(choices: Sequence[Choice]) -> NDArray[np.float64]:
    return np.zeros(len(choices))


def batches(
    choices: Choices, cost: Cost, predict: Callable[..., NDArray[np.float64]], seed: int = 0, most: int = 20
) -> list[list[Choice]]:
    """Return what a search proposes, batch by batch, until there is no more."""
    search = EvolutionarySearch(choices, predict, LLVM, seed)
    found: list[list[Choice]] = []
    while len(found) < most and (proposed := search.propose()):
        search.learn([cost(choice) for choice in proposed])
        found.append(proposed)
    return found


def test_a_small_space_is_proposed_completely_each_choice_once() -> None:
    found = [choice for batch in batches(SMALL, cost_of_small, knowing(cost_of_small)) for choice in batch]
    assert sorted(map(text_of, found)) == sorted(map(text_of, SMALL.every()))


@pytest.mark.parametrize("spaces", [{"A": {"x": [1, 2]}}, {"A": {}}, {"A": {}, "B": {"x": ["only"]}}])
def test_a_space_of_next_to_nothing_is_a_space(spaces: Mapping[str, Space]) -> None:
    choices = Choices(spaces)
    found = [choice for batch in batches(choices, lambda _: 5, ignorant) for choice in batch]
    assert sorted(map(text_of, found)) == sorted(map(text_of, choices.every()))


def test_in_a_large_space_no_choice_comes_twice_and_none_is_made_up() -> None:
    found = [choice for batch in batches(LARGE, cost_of_large, knowing(cost_of_large), most=10) for choice in batch]
    assert len(found) > 100
    assert len({*map(text_of, found)}) == len(found)
    assert all(LARGE.has(choice) for choice in found)


def test_the_same_seed_proposes_the_same_and_another_something_else() -> None:
    first, again, other = (batches(LARGE, cost_of_large, knowing(cost_of_large), seed, 4) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert batches(LARGE, cost_of_large, ignorant, 3, 2)[0] != first[0], "the model has a say"


def test_what_was_measured_best_is_where_it_goes_on() -> None:
    """With the same model, other costs lead elsewhere."""
    predict = knowing(cost_of_large)
    plain, turned = (
        batches(LARGE, cost, predict, 0, 3) for cost in (cost_of_large, lambda choice: 10**6 // cost_of_large(choice))
    )
    assert plain[0] == turned[0]
    assert plain[1:] != turned[1:]


def test_a_model_that_knows_finds_the_best_and_is_far_better_than_chance() -> None:
    def best(predict: Callable[..., NDArray[np.float64]], seed: int, most: int) -> int:
        return min(cost_of_large(c) for batch in batches(LARGE, cost_of_large, predict, seed, most) for c in batch)

    guided, blind = ([best(predict, seed, 3) for seed in range(3)] for predict in (knowing(cost_of_large), ignorant))
    assert max(guided) <= 340, "at most two steps from the best of 32,788 after 48 trials"
    assert max(guided) < min(blind)


def test_what_gives_no_kernel_is_left_alone() -> None:
    """Half of the values of one knob give none; the search learns of nothing but what it tried."""

    def cost(choice: Choice) -> int | None:
        return None if choice[KERNEL] == "A" and int(choice["a"]) % 2 else cost_of_large(choice)

    found = batches(LARGE, cost, knowing(cost), most=6)
    assert sum(len(batch) for batch in found) > 60
    assert sum(cost(choice) is None for choice in found[-1]) <= len(found[-1]) // 2


def survivor(folder: Path) -> Path:
    """Return a file in a folder that somebody needs."""
    (folder / "work").mkdir()
    file = folder / "work" / "thesis.txt"
    file.write_text("years")
    return file


def test_metaschedule_cannot_remove_a_folder(tmp_path: Path) -> None:
    """Its function removes the folder around an artifact, whatever lies there."""
    file = survivor(tmp_path)
    with pytest.raises(RuntimeError, match="Nothing here has a folder to remove"):
        tvm.get_global_func("s_tir.meta_schedule.remove_build_dir")(str(file))
    assert file.read_text() == "years"


def test_not_even_by_the_callback_that_is_there_for_it(tmp_path: Path) -> None:
    file = survivor(tmp_path)
    search = EvolutionarySearch(SMALL, ignorant, LLVM, 0)
    search.propose()
    callback = ms.measure_callback.MeasureCallback.create("default")
    removing = [each for each in callback if type(each).__name__ == "RemoveBuildArtifact"]
    assert len(removing) == 1, "the callback is not where it was"
    scheduler = ms.task_scheduler.RoundRobin()
    artifact = ms.builder.BuilderResult(str(file), None)
    with pytest.raises(RuntimeError, match="Nothing here has a folder to remove"):
        removing[0].apply(scheduler, 0, search._candidates[:1], [artifact], [ms.runner.RunnerResult([1.0], None)])
    assert file.read_text() == "years"


def interrupting(choices: Sequence[Choice]) -> NDArray[np.float64]:
    os.kill(os.getpid(), signal.SIGINT)
    return np.zeros(len(choices))


def test_ctrl_c_while_proposing_is_not_lost_and_breaks_nothing() -> None:
    predict = [interrupting, ignorant]
    search = EvolutionarySearch(SMALL, lambda choices: predict[0](choices), LLVM, 0)
    with pytest.raises(KeyboardInterrupt):
        search.propose()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    predict.pop(0)
    search = EvolutionarySearch(SMALL, lambda choices: predict[0](choices), LLVM, 0)
    assert search.propose()


def test_a_handler_of_somebody_else_hears_of_ctrl_c() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        assert EvolutionarySearch(SMALL, interrupting, LLVM, 0).propose()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT], "once, though it came more often"
