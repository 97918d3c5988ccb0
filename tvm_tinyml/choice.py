"""What is decided about the kernel of one operator where there is a choice.

A choice names the recipe or the schedule rule that makes the kernel, and its knobs:
``{"kernel": "ConvGemm", "product": "raw", "tiles": 8}``. Knobs that it leaves out are decided by the recipe's own
estimate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "int | str"

Knobs = Mapping[str, Value]
"""Decisions by name."""

NONE: Knobs = {}

Space = Mapping[str, Sequence[Value]]
"""The values of each knob."""

Choice = Mapping[str, Value]
"""Knobs, and which ``kernel`` has them."""

KERNEL = "kernel"


def knobs_of(choice: Choice) -> Knobs:
    """Return a choice without the name of its kernel."""
    return {name: value for name, value in choice.items() if name != KERNEL}


def text_of(choice: Choice) -> str:
    """Return a text that equal choices have in common."""
    return json.dumps(dict(choice), sort_keys=True)


def allowed(knobs: Knobs, space: Space) -> bool:
    """Return whether a space has the knobs, each with its value."""
    return all(value in space.get(name, ()) for name, value in knobs.items())


def is_as_chosen(made: Choice, choice: Choice) -> bool:
    """Return whether a kernel was made by a choice, which may leave knobs to it."""
    return choice.items() <= made.items()
