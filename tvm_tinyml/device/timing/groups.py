"""The few groups in which a person reads a profile: what share of the instructions moves data, and what computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

GROUPS = ("load", "store", "multiply", "widen", "branch", "other")
"""Every class of instructions belongs to one of them."""

_CLASSES = {
    "load": "load load_narrow load_double load_multiple float_load float_load_double float_load_multiple",
    "store": "store store_double store_multiple float_store float_store_double float_store_multiple",
    "multiply": "multiply multiply_add multiply_add_dsp multiply_long multiply_add_long float_multiply "
    "float_multiply_add",
    "widen": "extend",
    "branch": "branch call call_register branch_register table_branch",
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
