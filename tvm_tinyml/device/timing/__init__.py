"""How many cycles a run takes: tables of cores and memories, and the model that reads them.

See ``docs/cycle-model.md`` for what is modelled, what is not, and how far it is off.
"""

from tvm_tinyml.device.timing.cycles import MODEL_VERSION, Cycles, count_cycles
from tvm_tinyml.device.timing.groups import GROUPS, by_group
from tvm_tinyml.device.timing.memory import MemoryTiming, load_memory, memory_names
from tvm_tinyml.device.timing.tables import core_names, load_core

__all__ = [
    "GROUPS",
    "MODEL_VERSION",
    "Cycles",
    "MemoryTiming",
    "by_group",
    "core_names",
    "count_cycles",
    "load_core",
    "load_memory",
    "memory_names",
]
