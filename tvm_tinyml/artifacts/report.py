"""The report: one HTML file with every figure of the metadata, no network and no script needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.caveat import caveat

PAGE = "report.html"
NOTHING = "–"
COSTS = {"macs": ">MACs", "cycles": ">Cycles", "instructions": ">Instructions"}

# The memory map in its own units, which are pixels when the page is wide.
MAP_WIDTH, MAP_HEIGHT = 1100, 380
LEFT, RIGHT, TOP, BOTTOM = 80, 10, 28, 46


def report(metadata: Metadata) -> str:
    """Return the page.

    Parameters
    ----------
    metadata : the content of ``metadata.json``. What a run counts may be missing (``cycles``, ``instructions``, of the
        whole and of each layer, ``memory``), and so may ``files`` (bytes by path).
    """
    template = resources.files("tvm_tinyml.artifacts").joinpath(PAGE).read_text(encoding="utf-8")
    return Template(template).substitute(
        model=_text(metadata["model"]),
        target=_text(metadata["target"]),
        options=_options(metadata),
        cards="\n".join(_cards(metadata)),
        sections="\n".join(_sections(metadata)),
    )


def _sections(metadata: Metadata) -> Iterable[str]:
    yield _section("Layers", _layers(metadata), _code_note(metadata))
    yield _section("Workspace", *_workspace(metadata))
    yield _section("Inputs and outputs", *_inputs_and_outputs(metadata))
    if metadata.get("quantization"):
        yield _section("Quantization", *_quantization(metadata["quantization"]))
    if metadata.get("files"):
        yield _section("Files", _files(metadata["files"]))
    yield _section("What the figures are", *_notes(metadata))


# Head of the page


def _options(metadata: Metadata) -> str:
    named = {
        "tvm-tinyml": metadata["version"],
        "TVM": metadata["tvm"],
        "float ABI": metadata["float_abi"],
        **{name.replace("_", " "): value for name, value in metadata["options"].items()},
    }
    return "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(_plain(value))}</dd></div>" for name, value in named.items())


def _plain(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)


def _cards(metadata: Metadata) -> Iterable[str]:
    ram, flash, kernels = metadata["ram_bytes"], metadata["flash_bytes"], metadata["kernels"]
    layers = metadata["layers"]
    executed = metadata["macs_executed"]
    counts = {"in the model": metadata["macs"], "layers": len(layers), "with MACs": sum(l["macs"] > 0 for l in layers)}
    yield _card("MACs", executed, "", counts)
    yield _card("RAM", ram["total"], "bytes", {part: ram[part] for part in ("workspace", "stack", "static")})
    yield _card("Flash", flash["total"], "bytes", {part: flash[part] for part in ("weights", "code")})
    yield _card("Kernels", kernels["total"], "", {"tuned": kernels["tuned"]})
    if "cycles" in metadata:
        per_mac = {"per MAC": f"{metadata['cycles'] / executed:.2f}"} if executed else {}
        parts = {**per_mac, "instructions": metadata["instructions"], "memory": _text(metadata["memory"])}
        yield _card("Cycles, estimated", metadata["cycles"], "", parts)


def _card(title: str, value: int, unit: str, parts: Mapping[str, int | str]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{_grouped(part)}</dd>" for name, part in parts.items())
    unit = f" <small>{unit}</small>" if unit else ""
    return f'<div class="card"><h3>{title}</h3><strong>{_grouped(value)}{unit}</strong><dl>{rows}</dl></div>'


# Layers


def _layers(metadata: Metadata) -> str:
    layers = metadata["layers"]
    costs = [cost for cost in COSTS if any(cost in layer for layer in layers)]
    most = {cost: max((layer.get(cost, 0) for layer in layers), default=0) for cost in costs}
    total = {cost: sum(layer.get(cost, 0) for layer in layers) for cost in (*costs, "weight_bytes")}
    return _table(
        [">Call", "Layer", "Operator", "Schedule", *(COSTS[cost] for cost in costs), ">Weights", ">Output", ">Code"],
        [
            [
                _number(i),
                *(_cell(layer[key]) for key in ("name", "op", "schedule")),
                *(_bar(layer.get(cost), most[cost], total[cost]) for cost in costs),
                _weights(layer),
                _number(layer["output_bytes"]),
                code,
            ]
            for i, (layer, code) in enumerate(zip(layers, _code(metadata), strict=True))
        ],
        [
            *(_cell(text) for text in ("", "Total", "", "")),
            *(_number(total[key]) for key in (*costs, "weight_bytes")),
            _cell(""),
            _number(_kernel_bytes(metadata)),
        ],
    )


def _weights(layer: Mapping[str, Any]) -> str:
    """Return a cell with the size of the weights, and how much of them lies in RAM."""
    size, in_ram = layer["weight_bytes"], layer["weight_bytes_in_ram"]
    if not in_ram:
        return _number(size)
    where = "in RAM" if in_ram == size else f"{in_ram:,} in RAM"
    return f'<td class="number"><small>{where}</small>&ensp;{size:,}</td>'


def _bar(value: int | None, most: int, total: int) -> str:
    """Return a cell with a number and a bar, which is longest for the largest number of the column."""
    if value is None:
        return _cell(None, "number")
    bar = f'<i style="width:{100 * value / most:.1f}%"></i>' if value else ""
    title = f' title="{100 * value / total:.1f} % of all"' if total else ""
    return f'<td class="number"{title}><div class="bar"><span>{bar}</span>{value:,}</div></td>'


def _code(metadata: Metadata) -> Iterable[str]:
    """Yield the last cell of each layer; the code of a kernel that layers share counts at the first of them."""
    kernels = [layer["kernel"] for layer in metadata["layers"]]
    for i, kernel in enumerate(kernels):
        size = f"{metadata['code_bytes'][kernel]:,}" if kernel else NOTHING
        if kernel and kernels.index(kernel) < i:
            size = f"<small>as call {kernels.index(kernel)}</small>"
        elif kernel and kernels.count(kernel) > 1:
            size = f"<small>shared by {kernels.count(kernel)}</small>&ensp;{size}"
        yield f'<td class="number" title="{_text(kernel or "")}">{size}</td>'


def _kernel_bytes(metadata: Metadata) -> int:
    kernels = {layer["kernel"] for layer in metadata["layers"]} - {None}
    return sum(metadata["code_bytes"][kernel] for kernel in kernels)


def _code_note(metadata: Metadata) -> str:
    code, kernels = metadata["flash_bytes"]["code"], _kernel_bytes(metadata)
    return _paragraph(
        "Weights, output and code in bytes. A kernel that several layers share is counted once. The rest of the "
        f"{code:,} bytes of code, {code - kernels:,}, is helpers, alignment and the function that calls the kernels."
    )


# Memory


def _workspace(metadata: Metadata) -> Iterable[str]:
    buffers, size = metadata["memory_map"], metadata["ram_bytes"]["workspace"]
    if not buffers:
        yield _paragraph("The library needs no workspace.")
        return
    names = [layer["name"] for layer in metadata["layers"]]
    in_use = [sum(b["size_bytes"] for b in buffers if b["first"] <= i <= b["last"]) for i in range(len(names))]
    busiest = in_use.index(max(in_use))
    yield _memory_map(buffers, names, size)
    yield _paragraph(
        "Each rectangle is a buffer, from the first call that uses it to the last; those with a full colour end "
        f"highest. Most bytes are in use at call {busiest}, {_text(names[busiest])}: {in_use[busiest]:,} of {size:,}."
    )
    table = _table(
        [">Buffer", ">Offset", ">Bytes", "First call", "Last call"],
        [
            [
                *(_number(buffer[key]) for key in ("buffer", "offset", "size_bytes")),
                *(_cell(f"{buffer[key]} {names[buffer[key]]}") for key in ("first", "last")),
            ]
            for buffer in buffers
        ],
    )
    yield f"<details><summary>The buffers as a table</summary>\n{table}\n</details>"


def _memory_map(buffers: Sequence[Mapping[str, int]], names: Sequence[str], size: int) -> str:
    """Return the drawing: calls to the right, offsets upwards, both exact."""
    right, bottom = MAP_WIDTH - RIGHT, MAP_HEIGHT - BOTTOM
    call = (right - LEFT) / len(names)
    byte = (bottom - TOP) / size
    top = max(b["offset"] + b["size_bytes"] for b in buffers)

    def offset_axis() -> Iterable[str]:
        for offset in range(0, size, _step(size, 6)):
            y = f"{bottom - offset * byte:.2f}"
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{offset:,}</text>'
        middle = f"translate(14 {(TOP + bottom) / 2:.2f}) rotate(-90)"
        yield f'<text transform="{middle}" text-anchor="middle">offset in bytes</text>'

    def call_axis() -> Iterable[str]:
        for i in range(0, len(names), _step(len(names), 24)):
            x = f"{LEFT + (i + 0.5) * call:.2f}"
            yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{i}<title>{_text(names[i])}</title></text>'
        yield f'<text x="{(LEFT + right) / 2:.2f}" y="{MAP_HEIGHT - 6}" text-anchor="middle">call</text>'

    def rectangle(buffer: Mapping[str, int]) -> str:
        offset, size_bytes, first, last = (buffer[key] for key in ("offset", "size_bytes", "first", "last"))
        title = (
            f"buffer {buffer['buffer']}: {size_bytes:,} bytes at offset {offset:,}, "
            f"calls {first} ({names[first]}) to {last} ({names[last]})"
        )
        return (
            f'<rect class="buffer{" top" if offset + size_bytes == top else ""}" '
            f'x="{LEFT + first * call:.2f}" width="{(last - first + 1) * call:.2f}" '
            f'y="{bottom - (offset + size_bytes) * byte:.2f}" height="{size_bytes * byte:.2f}">'
            f"<title>{_text(title)}</title></rect>"
        )

    parts = [
        *offset_axis(),
        *call_axis(),
        *(rectangle(buffer) for buffer in buffers),
        f'<line class="mark" x1="{LEFT}" x2="{right}" y1="{TOP}" y2="{TOP}"/>',
        f'<text class="mark" x="{LEFT}" y="{TOP - 8}">high-water mark: {size:,} bytes</text>',
    ]
    drawing = "\n".join(parts)
    label = "Memory map of the workspace: buffers by call and offset"
    return (
        f'<div class="scroll"><svg viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img" aria-label="{label}">\n'
        f"{drawing}\n</svg></div>"
    )


def _step(extent: int, most: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that divides an axis into at most so many parts.

    >>> [_step(44, 24), _step(28096, 6)]
    [2, 5000]
    """
    power = 1
    while True:
        for factor in (1, 2, 5):
            if extent <= factor * power * most:
                return factor * power
        power *= 10


# Tensors, files, notes


def _inputs_and_outputs(metadata: Metadata) -> Iterable[str]:
    tensors = [(f"{role} {i}", t) for role in ("input", "output") for i, t in enumerate(metadata[f"{role}s"])]
    yield _table(
        ["", "Name", "Shape", "Type", ">Scale", ">Zero point", ">Bytes", "Where"],
        [
            [
                _cell(role),
                _cell(tensor["name"]),
                _cell(" × ".join(map(str, tensor["shape"]))),
                _cell(tensor["dtype"]),
                _cell(None if tensor["scale"] is None else f"{tensor['scale']:.9g}", "number"),
                _cell(tensor["zero_point"], "number"),
                _number(tensor["size_bytes"]),
                _cell(_where(tensor["workspace_offset"])),
            ]
            for role, tensor in tensors
        ],
    )
    destroyed = " A run destroys the inputs: write them again before the next." if metadata["inputs_destroyed"] else ""
    yield _paragraph(f"real = scale × (integer − zero point).{destroyed}")


def _where(offset: int | None) -> str:
    return "the caller's buffer" if offset is None else f"workspace, offset {offset:,}"


def _precisions(layers: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Yield what each layer takes by precision, as bars: what it stores, and its cycles if they were counted."""
    known = layers[0]["precisions"] if layers else []
    sizes = ("weight_bytes", "weights, bytes"), ("constant_bytes", "constants, bytes")
    for key, title in (*sizes, ("cycles", "cycles")):
        most = max((precision[key] or 0 for layer in layers for precision in layer["precisions"]), default=0)
        if most:
            yield _table(
                ["Layer", *(f">{precision['recipe']}, {title}" for precision in known)],
                [
                    [_cell(layer["name"]), *(_bar(precision[key], most, 0) for precision in layer["precisions"])]
                    for layer in layers
                ],
            )


def _quantization(report: Mapping[str, Any]) -> Iterable[str]:
    """Yield signal to noise along the network as bars, then what became of tensors and weights."""
    most = round(max((tensor["decibels"] for tensor in report["tensors"]), default=0))
    yield _paragraph(
        f"Recipe {_text(report['recipe'])}, observer {_text(report['observer'])}, {report['samples']} samples: "
        f"{report['decibels']:.1f} dB at the outputs, before a softmax."
    )
    yield _table(
        ["Tensor", "Type", ">Least", ">Largest", ">Scale", ">Zero point", ">Clipped", ">Signal to noise, dB"],
        [
            [
                *(_cell(tensor[key]) for key in ("name", "dtype")),
                *(_cell(f"{tensor[key]:.4g}", "number") for key in ("low", "high", "scale")),
                _number(tensor["zero_point"]),
                _cell(f"{100 * tensor['clipped_share']:.2f} %", "number"),
                _bar(round(tensor["decibels"]), most, 0),
            ]
            for tensor in report["tensors"]
        ],
    )
    yield _table(
        ["Layer", ">Bits", ">Weights, bytes", ">Weights, dB"],
        [
            [
                _cell(layer["name"]),
                *(_number(layer[key]) for key in ("bits", "weight_bytes")),
                _cell(f"{layer['decibels']:.1f}", "number"),
            ]
            for layer in report["layers"]
        ],
    )
    yield from _precisions(report["layers"])
    if report["choices"]:
        points, costs = report["choices"], ("weight_bytes", "flash_bytes", "ram_bytes", "cycles")
        most = {cost: max(point[cost] or 0 for point in points) for cost in costs}
        yield _table(
            ["Precision", ">Weights, bytes", ">Flash, bytes", ">RAM, bytes", ">Cycles", ">Outputs, dB", ">4 bits"],
            [
                [
                    _cell(point["name"]),
                    *(_bar(point[cost], most[cost], 0) for cost in costs),
                    _bar(round(point["decibels"]), round(max(p["decibels"] for p in points)), 0),
                    _number(len(point["narrow"])),
                ]
                for point in points
            ],
        )
    if report["accuracy"]:
        found = report["accuracy"]
        yield _table(
            [">Samples", ">Right in floats", ">Right in integers", ">Same class"],
            [
                [
                    _number(found["samples"]),
                    *(_cell(f"{100 * found[key]:.2f} %", "number") for key in ("float_right", "integer_right", "same")),
                ]
            ],
        )


def _files(files: Mapping[str, int]) -> str:
    rows = [[_cell(path), _number(size)] for path, size in files.items()]
    return _table(["Path", ">Bytes"], rows, [_cell("Total"), _number(sum(files.values()))])


def _notes(metadata: Metadata) -> Iterable[str]:
    yield _paragraph(
        "Sizes are exact: they are read from the compiled objects and the memory plan. Code is that of the object "
        "form; another compiler makes other code of the C form. Stack is an upper bound for one run, interrupts not "
        "included. MACs are multiply-accumulates of one inference."
    )
    if "cycles" in metadata:
        yield _paragraph(_text(caveat(metadata["target"].split("+")[0])))
    else:
        yield _paragraph("No board was measured.")


# Templates; what comes from the metadata is escaped here and nowhere later


def _section(title: str, *content: str) -> str:
    name = title.lower().replace(" ", "-")
    return "\n".join([f'<section id="{name}">', f"<h2>{title}</h2>", *content, "</section>"])


def _paragraph(html: str) -> str:
    return f"<p>{html}</p>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = ()) -> str:
    """Return a table of cells that are made already; a title that starts with ``>`` stands to the right."""
    titles = "".join(
        f'<th scope="col" class="number">{title[1:]}</th>' if title.startswith(">") else f'<th scope="col">{title}</th>'
        for title in head
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    last = f"\n<tfoot><tr>{''.join(foot)}</tr></tfoot>" if foot else ""
    rows_of_cells = f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody>{last}"
    return f'<div class="scroll"><table>\n{rows_of_cells}\n</table></div>'


def _cell(value: object, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{NOTHING if value is None else _text(value)}</td>"


def _number(value: int) -> str:
    return f'<td class="number">{value:,}</td>'


def _grouped(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _text(value: object) -> str:
    return escape(str(value), quote=True)
