"""The search: MetaSchedule's evolutionary search over choices, with our rules, mutators and cost model.

A choice is a trace: one sampling instruction for each knob, whose decisions MetaSchedule replays and mutates. The
program that the trace schedules is a placeholder that carries the decisions as annotations of its block. What
they mean takes effect when the operator is lowered (`passes.ChooseKernels`); so recipes of microkernels and S-TIR
schedules are searched alike, and a tuning log needs to hold decisions only.

Everything here goes through TVM's own interface for Python classes; `tests/tuning` notices when a release changes it.
"""

# TVMScript is a language of its own: neither its decorator nor its annotations are Python types.
# mypy: disable-error-code="untyped-decorator, valid-type"

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule, Trace
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.meta_schedule.database import Workload as DatabaseWorkload
from tvm.s_tir.schedule import SBlockRV
from tvm.script import tirx as T
from tvm.target import Target as TvmTarget

from tvm_tinyml import script
from tvm_tinyml.choice import KERNEL, Choice, Space
from tvm_tinyml.tuning.space import Choices

BLOCK = "choice"
SECONDS_PER_CYCLE = 1e-9
"""MetaSchedule compares seconds; any factor will do."""

MOST_TRIALS = 1 << 30

Predict = Callable[[Sequence[Choice]], NDArray[np.float64]]
"""From choices to the logarithms of what they are expected to cost, over a cost that is the same for all."""


@script.prim_func(s_tir=True)
def _placeholder(a: T.Buffer((1,), "int8"), b: T.Buffer((1,), "int8")) -> None:
    T.func_attr({"global_symbol": "main"})
    with T.sblock("root"):
        T.reads()
        T.writes()
        for i in range(1):
            with T.sblock("choice"):
                j = T.axis.remap("S", [i])
                b[j] = a[j]


@derived_object
class OneSketchPerKernel(ms.schedule_rule.PyScheduleRule):  # type: ignore[misc]
    """Schedule rule: a design space for each kernel, with a decision for each of its knobs."""

    def __init__(self, spaces: Mapping[str, Space]) -> None:
        super().__init__()
        self.spaces = spaces

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, schedule: Schedule, block: SBlockRV) -> list[Schedule]:
        """Return the design spaces."""
        if schedule.get(block).name_hint != BLOCK:
            return [schedule]
        return [self._sketch(schedule.copy(), kernel, space) for kernel, space in self.spaces.items()]

    @staticmethod
    def _sketch(schedule: Schedule, kernel: str, space: Space) -> Schedule:
        block = schedule.get_sblock(BLOCK)
        schedule.annotate(block, KERNEL, kernel)
        for knob, values in space.items():
            decision = schedule.sample_categorical(list(range(len(values))), [1 / len(values)] * len(values))
            schedule.annotate(block, knob, decision)
        return schedule

    def clone(self) -> ms.ScheduleRule:
        """Return the same rule."""
        return OneSketchPerKernel(self.spaces)


@derived_object
class MutateKnob(ms.mutator.PyMutator):  # type: ignore[misc]
    """Mutator: one knob of a choice gets another value.

    Parameters
    ----------
    near : to a neighbour of the value, or to any.
    """

    def __init__(self, seed: int, *, near: bool) -> None:
        super().__init__()
        self.seed, self.near = seed, near
        self.random = random.Random(seed)

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, trace: Trace, _seed: int = -1) -> Trace | None:
        """Return the mutated trace, or None if there is nothing to decide."""
        knobs = [each for each in trace.insts if each.kind.name == "SampleCategorical" and len(each.attrs[0]) > 1]
        if not knobs:
            return None
        knob = self.random.choice(knobs)
        count, now = len(knob.attrs[0]), int(trace.decisions[knob])
        others = [value for value in range(count) if value != now and (not self.near or abs(value - now) == 1)]
        return trace.with_decision(knob, self.random.choice(others), remove_postproc=True)

    def clone(self) -> ms.Mutator:
        """Return the same mutator, from the beginning."""
        return MutateKnob(self.seed, near=self.near)


@derived_object
class NotRefused(ms.postproc.PyPostproc):  # type: ignore[misc]
    """Postprocessor: choices that are known to give no kernel are not tried again.

    Parameters
    ----------
    is_refused : whether a choice is known to be one.
    """

    def __init__(self, is_refused: Callable[[Schedule], bool]) -> None:
        super().__init__()
        self.is_refused = is_refused

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, schedule: Schedule) -> bool:
        """Return whether the choice may be tried."""
        return not self.is_refused(schedule)

    def clone(self) -> ms.Postproc:
        """Return the same postprocessor."""
        return NotRefused(self.is_refused)


@derived_object
class Predicted(ms.cost_model.PyCostModel):  # type: ignore[misc]
    """Cost model: what `predict` says. It is trained outside, with the trials of all operators."""

    def __init__(self, predict: Callable[[Sequence[Schedule]], NDArray[np.float64]]) -> None:
        super().__init__()
        self.predict_schedules = predict

    def load(self, path: str) -> None:
        """Do nothing."""

    def save(self, path: str) -> None:
        """Do nothing."""

    def update(self, context: ms.TuneContext, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Do nothing."""

    def predict(self, context: ms.TuneContext, candidates: Sequence[Any]) -> NDArray[np.float64]:
        """Return scores; the more, the better, and each above 0: MetaSchedule takes what is below for 0."""
        return np.exp(-self.predict_schedules([candidate.sch for candidate in candidates]))


class _Context(ms.TuneContext):  # type: ignore[misc]
    """A tuning context that does without TVM's tensor intrinsics, whose import takes half a minute, and its log."""

    def __init__(
        self, module: IRModule, target: TvmTarget, space: ms.SpaceGenerator, strategy: ms.SearchStrategy, seed: int
    ) -> None:
        arguments = (module, target, space, strategy, BLOCK, 1, seed, lambda *_: None)
        self.__init_handle_by_constructor__(_ffi_api.TuneContext, *arguments)
        _ffi_api.TuneContextInitialize(self)


class EvolutionarySearch:
    """Proposes choices for one operator, and learns what they cost.

    Parameters
    ----------
    choices : to choose from.
    predict : the cost model.
    llvm : TVM's description of the target.
    seed : 0 and more. The same seed, predictions and costs give the same proposals.
    batch : choices that are proposed at a time.
    """

    def __init__(
        self, choices: Choices, predict: Predict, llvm: Mapping[str, Any], seed: int, batch: int = 16
    ) -> None:
        self._choices = choices
        self._refused: set[str] = set()
        self._module = IRModule({"main": _placeholder})
        self._target = TvmTarget(dict(llvm))
        self._strategy = ms.search_strategy.EvolutionarySearch(
            population_size=4 * batch,
            init_measured_ratio=0.25,
            init_min_unmeasured=batch,
            max_fail_count=10,
            genetic_num_iters=3,
            genetic_mutate_prob=0.85,
            genetic_max_fail_count=10,
            eps_greedy=0.1,
        )
        mutators = {MutateKnob(seed, near=True): 0.5, MutateKnob(seed + 1, near=False): 0.5}
        space = ms.space_generator.PostOrderApply(
            sch_rules=[OneSketchPerKernel(choices.spaces)],
            postprocs=[NotRefused(lambda schedule: str(self._choice(schedule)) in self._refused)],
            mutator_probs=mutators,
        )
        self._context = _Context(self._module, self._target, space, self._strategy, seed + 1)
        self._database = ms.database.MemoryDatabase()
        self._workload: DatabaseWorkload = self._database.commit_workload(self._module)
        model = Predicted(lambda schedules: predict([self._choice(schedule) for schedule in schedules]))
        with _interrupts_wait():
            designs = self._context.generate_design_space()
            self._context.pre_tuning(MOST_TRIALS, batch, designs, self._database, model)

    def propose(self) -> list[Choice]:
        """Return choices that were not proposed before; none if it finds no more. `learn` must follow."""
        with _interrupts_wait():
            found = self._context.generate_measure_candidates()
        self._candidates = list(found) if found else []
        return [self._choice(candidate.sch) for candidate in self._candidates]

    def learn(self, cycles: Sequence[int | None]) -> None:
        """Take note of what the proposed choices cost, in their order; None for one that gives no kernel."""
        results = []
        for candidate, cost in zip(self._candidates, cycles, strict=True):
            if cost is None:
                self._refused.add(str(self._choice(candidate.sch)))
                results.append(ms.runner.RunnerResult(None, "refused"))
                continue
            seconds = [cost * SECONDS_PER_CYCLE]
            results.append(ms.runner.RunnerResult(seconds, None))
            record = ms.database.TuningRecord(candidate.sch.trace, self._workload, seconds, self._target, [])
            self._database.commit_tuning_record(record)
        if self._candidates:
            self._context.notify_runner_results(self._candidates, results)

    def _choice(self, schedule: Schedule) -> Choice:
        annotations = {str(k): v for k, v in schedule.get(schedule.get_sblock(BLOCK)).annotations.items()}
        kernel = str(annotations[KERNEL])
        space = self._choices.spaces[kernel]
        return {KERNEL: kernel, **{knob: values[int(annotations[knob])] for knob, values in space.items()}}


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C take effect at the end: a ``KeyboardInterrupt`` in the midst of TVM's code may be lost there."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


@tvm.register_global_func("s_tir.meta_schedule.remove_build_dir", override=True)
def _remove_no_folder(path: str) -> None:
    """Refuse what MetaSchedule would do after a measurement: remove the folder around an artifact, whatever it is.

    Ours are no files. This stands in the way of a callback that would be added to a search by accident.
    """
    raise RuntimeError(f"MetaSchedule wants to remove the folder of {path}. Nothing here has a folder to remove.")
