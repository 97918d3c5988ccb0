"""The pass: what no output depends on leaves the network, channel by channel."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext

from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.remove_dead_channels.known import constant_channels, with_foldable
from tvm_tinyml.passes.remove_dead_channels.links import operators_of
from tvm_tinyml.passes.remove_dead_channels.live import live_channels
from tvm_tinyml.passes.remove_dead_channels.narrow import Narrowing


@tvm.transform.module_pass(opt_level=0, name="tinyml.RemoveDeadChannels")
class RemoveDeadChannels(CallablePass):
    """Remove channels that nothing reads, or that are constant: what they add to a sum moves to its bias.

    Weights, biases, multipliers, shifts and tensors shrink. Inputs and outputs keep their shape, and every byte of an
    output stays.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing can leave."""
        # A depthwise convolution of which one channel is left is an ordinary one, of which more can leave.
        while (fewer := _removed(mod)) is not mod:
            mod = fewer
        return mod


def _removed(mod: IRModule) -> IRModule:
    main = mod["main"]
    operators = operators_of(main)
    constants = constant_channels(mod, operators)
    operators = [with_foldable(operator, constants) for operator in operators]
    kept = live_channels(main, operators)
    if all(mask.all() for mask in kept.values()):
        return mod
    builder = relax.BlockBuilder()
    narrowing = Narrowing(kept, constants, {param: param for param in main.params})
    bindings = []
    for operator in operators:
        if kept[operator.var].any():
            value = builder.normalize(narrowing.value(operator))
            var = type(operator.var)(operator.var.name, value.ty)
            narrowing.narrowed[operator.var] = var
            bindings.append(relax.VarBinding(var, value))
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], narrowing.renamed(main.body.body))
    narrowed = relax.Function(main.params, body, main.ret_ty, attrs=main.attrs)
    return IRModule({**dict(mod.functions), mod.get_global_var("main"): narrowed}, attrs=mod.attrs)
