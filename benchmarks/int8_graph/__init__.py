"""Random int8 and 16x8 networks that know their answer: written as TFLite, executed by the numpy reference.

A graph is built operator by operator. Each call adds the TFLite operator, remembers how the reference computes it, and
runs it on a few random inputs, from which weight scales, biases and the output scale follow: channels then use the
range well and neither saturate nor die, whatever the depth. Everything comes from one seed.
"""

from __future__ import annotations

from benchmarks.int8_graph.elementwise import Elementwise
from benchmarks.int8_graph.layers import Layer, Layers
from benchmarks.int8_graph.movement import Movement
from benchmarks.int8_graph.network import Network, Quantization, Step, Value
from benchmarks.int8_graph.reduction import Reduction

__all__ = ["Int8Graph", "Layer", "Network", "Quantization", "Step", "Value"]


class Int8Graph(Layers, Elementwise, Reduction, Movement):
    """Builds a `Network`; its parameters are those of :class:`benchmarks.int8_graph.graph.Graph`."""
