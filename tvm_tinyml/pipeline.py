"""The whole compile, top to bottom: a model in, a library out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import tvm
from tvm import IRModule, relax

from tvm_tinyml import passes
from tvm_tinyml.artifacts.header import header
from tvm_tinyml.artifacts.metadata import metadata
from tvm_tinyml.artifacts.stack import frames, worst_stack_bytes
from tvm_tinyml.choice import Choice
from tvm_tinyml.device.archive import write_archive
from tvm_tinyml.device.strip import strip
from tvm_tinyml.errors import TargetError
from tvm_tinyml.fit import check_fit, fits
from tvm_tinyml.flatten import flatten
from tvm_tinyml.hot_constants import fill_ram
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes.apply_recipes import reads_narrow
from tvm_tinyml.passes.choose_kernels import Choose, untuned
from tvm_tinyml.passes.place_channels import Parts, interleaves
from tvm_tinyml.program import Program
from tvm_tinyml.schedules.rule import ApplySchedules
from tvm_tinyml.stripes import choices, smallest
from tvm_tinyml.targets.assembly import callees
from tvm_tinyml.targets.c_source import sources
from tvm_tinyml.targets.llvm_main import main_ir
from tvm_tinyml.targets.llvm_object import compile_ir, compile_kernels
from tvm_tinyml.targets.lowering import lower_kernels
from tvm_tinyml.targets.target import Target
from tvm_tinyml.tight import may_shrink
from tvm_tinyml.tuning.choose import Chooser


def compile_model(model: Model, target: Target, options: BuildOptions) -> Library:
    """Compile a model for a target.

    Raises
    ------
    ModelError : the model is not fully quantized.
    TargetError : its weights have 4 bits, and the target no kernel for them.
    FitError : the library takes more than the options allow.
    TuningLogError : the tuning log is damaged.
    NotTunedError : operators have no record, and the options require them.
    """
    _check_bits(model, target, options)
    library = _build(model, target, options)
    if not fits(library, options):
        # Stripes of layers are no operators that anybody has tuned.
        cut = None if options.require_tuned else _cut_to_fit(model, target, options)
        if cut is not None:
            return cut
        check_fit(library, options, lambda others: _build(model, target, others))
    return library


def _check_bits(model: Model, target: Target, options: BuildOptions) -> None:
    """Refuse weights that were made narrow for nothing."""
    narrow = [layer.name for layer in model.quantization.layers if layer.bits < 8] if model.quantization else []
    if narrow and "tinyml.unpack" not in target.recipes(options.goal):
        raise TargetError(
            f"{len(narrow)} layers of '{model.name}' have weights of 4 bits, and {target.name} has no kernel that "
            "unpacks them. Quantize with int8 or int16x8."
        )


def _build(model: Model, target: Target, options: BuildOptions) -> Library:
    chooser = Chooser.of(target, options)
    program = lower_model(model, target, options, chooser.choose)
    chooser.check()
    return package(program, target, options, chooser.is_tuned)


def _cut_to_fit(model: Model, target: Target, options: BuildOptions) -> Library | None:
    """Return a library that computes as much in stripes of rows as the limit of RAM demands, or None if none fits."""
    graph, chooser = integer_graph(model, options), Chooser.of(target, options)

    def fitting(graph: IRModule) -> Library | None:
        program = lower_graph(graph, model, target, options, chooser.choose, least_ram=True)
        library = package(program, target, options, chooser.is_tuned)
        return library if fits(library, options) else None

    whole = fitting(graph) if options.goal == "time" else None  # other goals have tried that
    if whole is not None:
        return whole
    found: Library | None = None
    left = choices(graph, io_in_workspace=options.io == "workspace")  # the smallest first, which has the most work
    while left:
        middle = len(left) // 2 if found else 0
        library = fitting(passes.CutIntoStripes(left[middle].segments)(graph))
        if library is not None:
            found, left = library, left[middle + 1 :]
        else:
            left = left[:middle]
    return found


def lower_model(model: Model, target: Target, options: BuildOptions, choose: Choose = untuned) -> Program:
    """Turn a model into kernels and a list of calls over planned memory: all of a compile but writing it out."""
    graph = integer_graph(model, options)

    def lower(graph: IRModule) -> Program:
        return lower_graph(graph, model, target, options, choose, least_ram=options.goal != "time")

    if options.goal == "ram":
        return smallest(graph, lower, io_in_workspace=options.io == "workspace")
    return lower(graph)


def integer_graph(model: Model, options: BuildOptions) -> IRModule:
    """Return a model in integer operators, with nothing in it that need not be computed."""
    steps = [
        # 1. canonical QDQ in, integer operators out
        passes.FoldQuantization(),
        passes.TransposedToConvolutions(),
        # 2. what depends on no input, what others undo or computed already, what is a table or a border
        passes.FoldConstants(),
        passes.SimplifyTransposes(),
        passes.SimplifyReshapes(),
        relax.transform.EliminateCommonSubexpr(call_only=True),
        relax.transform.CanonicalizeBindings(),
        passes.TabulateFunctions(),
        passes.FuseLookups(),
        passes.FoldPads(),
        # 3. channels, and moves of data that are none
        passes.RemoveDeadChannels(),
        passes.ResizeToGather(),
        passes.MovesToViews(),
        # 4. little alive at a time
        passes.OrderOperators(options.io == "workspace"),
    ]
    return _run(steps, model.module, options)


def lower_graph(
    graph: IRModule,
    model: Model,
    target: Target,
    options: BuildOptions,
    choose: Choose = untuned,
    *,
    least_ram: bool = False,
) -> Program:
    """Turn integer operators into kernels and a list of calls over planned memory.

    Parameters
    ----------
    choose : from all operators' calls to what tuning found for them.
    least_ram : where that takes less RAM, channels that are put together may be copies, and convolutions one with the
        operators behind them.
    """

    def lower(parts: Parts, *, fuse: bool = False) -> Program:
        lay_out = options.goal == "time" and not least_ram
        return _lower(graph, model, target, options, choose, parts, fuse=fuse, lay_out=lay_out)

    ways = list(Parts) if least_ram and interleaves(graph) else [Parts.ALL]
    programs = [lower(parts) for parts in ways]
    if least_ram:
        apart = zip(ways, list(programs), strict=True)
        programs += [lower(parts, fuse=True) for parts, program in apart if may_shrink(program)]
    return min(programs, key=lambda program: program.workspace_bytes)


def _lower(
    graph: IRModule,
    model: Model,
    target: Target,
    options: BuildOptions,
    choose: Choose,
    parts: Parts,
    *,
    fuse: bool,
    lay_out: bool,
) -> Program:
    # PlaceChannels asks recipes what they can write: where none will be applied, none must answer.
    recipes = {} if "tinyml.ApplyRecipes" in options.disabled_passes else target.recipes(options.goal)
    unpacks = "tinyml.unpack" in recipes
    steps = [
        # 1. kernels: integer operators become PrimFuncs, by a recipe of microkernels where one fits; some recipes pad
        # by themselves, some read or write channels of a wider tensor. What only moves data is lowered by TVM
        *([passes.SplitNarrowLayers(partial(reads_narrow, recipes))] if unpacks else []),
        passes.ChooseKernels(choose),
        passes.PlaceChannels(recipes, parts),
        *([passes.FuseAdds(recipes), passes.FusePools(recipes)] if fuse else []),
        *([passes.AssignLayouts(recipes)] if lay_out else []),
        passes.ApplyRecipes(recipes),
        passes.SplitPadding(),
        passes.ApplyRecipes(recipes),
        passes.LowerToKernels(target.traits),
        # weights of four bits, in the order in which the kernels want them
        *([passes.PackWeights(), passes.ApplyRecipes(recipes)] if unpacks else []),
        relax.transform.LegalizeOps(skip_ops=["relax.reshape"]),
        relax.transform.DeadCodeElimination(["main"]),
        # 2. schedules: the first rule that fits
        ApplySchedules(target.small_rules if options.goal == "flash" else target.rules),
        *([passes.UnpackInKernels()] if unpacks else []),
        # 3. plain C functions
        lower_kernels(),
    ]
    # 4. memory: a flat list of calls, every tensor with an offset
    lowered = _run(steps, graph, options)
    tensors = {str(binding.var.name) for block in graph["main"].body.blocks for binding in block.bindings}
    return flatten(lowered, model, tensors, io_in_workspace=options.io == "workspace", pools=options.pools)


def _run(steps: Sequence[tvm.transform.Pass], module: IRModule, options: BuildOptions) -> IRModule:
    with tvm.transform.PassContext(opt_level=3, disabled_pass=list(options.disabled_passes)):
        return tvm.transform.Sequential(steps)(module)


def package(
    program: Program, target: Target, options: BuildOptions, is_tuned: Callable[[Choice], bool] = lambda _: False
) -> Library:
    """Write a program out in the forms that the options ask for: code and its description.

    Parameters
    ----------
    is_tuned : whether a kernel's choice comes from a tuning log.
    """
    tuned = sum(is_tuned(kernel.choice) for kernel in program.kernels.values())
    kernels = [strip(data) for data in compile_kernels(program.functions, target, small=options.goal == "flash")]

    def write(in_ram: frozenset[int]) -> Library:
        return _write(replace(program, in_ram=in_ram), kernels, target, options, tuned)

    if options.weights == "ram":
        return write(frozenset(range(len(program.constants))))
    return fill_ram(program, options, write)


def _write(program: Program, kernels: Sequence[bytes], target: Target, options: BuildOptions, tuned: int) -> Library:
    """Write a program out whose kernels have been compiled, so many of them as a tuning log says."""
    main = strip(compile_ir(main_ir(program), target))
    own = {symbol: frame for data in (*kernels, main) for symbol, frame in frames(data).items()}
    stack_bytes = worst_stack_bytes(own, f"{program.prefix}_run", callees(program.functions))
    tool = version("tvm_tinyml")
    description = metadata(
        program,
        target,
        [*kernels, main],
        stack_bytes=stack_bytes,
        options=options.as_dict(),
        version=tool,
        tuned=tuned,
    )
    members = [(f"{program.prefix}_kernels{i or ''}.o", data) for i, data in enumerate(kernels)]
    return Library(
        metadata=description,
        header=header(
            *(program, target), stack_bytes=stack_bytes, static_bytes=description["ram_bytes"]["static"], version=tool
        ),
        sources={} if options.emit == "lib" else sources(program),
        archive=b"" if options.emit == "c" else write_archive([*members, (f"{program.prefix}.o", main)]),
    )
