"""The few groups in which a person reads a profile: what share of the instructions moves data, and what computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

GROUPS = ("load", "store", "multiply", "widen", "branch", "other")
"""Every class of instructions belongs to one of them."""

_CLASSES = {
    "load": "load load_narrow load_double load_multiple float_load float_load_double float_load_multiple "
    "vector_load vector_load_interleaved vector_gather_8 vector_gather_16 vector_gather_32 predicate_load",
    "store": "store store_double store_multiple float_store float_store_double float_store_multiple "
    "vector_store vector_store_interleaved vector_scatter_8 vector_scatter_16 vector_scatter_32 predicate_store",
    "multiply": "multiply multiply_add multiply_add_dsp multiply_long multiply_add_long float_multiply "
    "float_multiply_add vector_multiply vector_multiply_add vector_multiply_polynomial vector_dot "
    "vector_float_multiply vector_float_multiply_add",
    "widen": "extend",
    "branch": "branch call call_register branch_register table_branch loop_start loop_end",
}
_GROUP_OF = {name: group for group, names in _CLASSES.items() for name in names.split()}


def group_of(kind: str) -> str:
    """Return the group of a class of instructions; what is neither of the first five is ``other``."""
    return _GROUP_OF.get(kind, "other")


def by_group(classes: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Add up counts by class into counts by group, all groups in their order."""
    counts = dict.fromkeys(GROUPS, 0)
    for kind, count in classes:
        counts[group_of(kind)] += count
    return counts
