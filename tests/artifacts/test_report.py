"""The report: one file that needs nothing else, shows every layer and buffer, and believes no name in a model."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from simulated import needs_simulator

import tvm_tinyml as tinyml
from benchmarks.networks import keyword_spotting
from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.artifacts.report import BOTTOM, LEFT, MAP_HEIGHT, MAP_WIDTH, RIGHT, TOP, report

VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = """<script>alert("1")</script> & 'it' $model"""


class Page(HTMLParser):
    """A page as a list of elements; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.elements: list[dict[str, Any]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", "parents": [e["tag"] for e in self.open], **dict(attrs)}
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in [e["tag"] for e in self.open], f"<{tag}/> does not close outside of a drawing"
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, Any]]:
        return [e for e in self.elements if e["tag"] == tag and kind in ["", *(e.get("class") or "").split()]]

    def texts(self, tag: str, kind: str = "") -> list[str]:
        return [e["text"] for e in self.all(tag, kind)]

    def rows(self, table: int) -> list[list[str]]:
        """Return the cells of one table, headings first."""
        rows: list[list[str]] = []
        tables = -1
        for element in self.elements:
            tables += element["tag"] == "table"
            if tables == table and element["tag"] == "tr":
                rows.append([])
            if tables == table and element["tag"] in ("th", "td"):
                rows[-1].append(element["text"])
        return rows


def layer(name: str, kernel: str | None, macs: int, **more: Any) -> dict[str, Any]:
    schedule = "DotProductTile" if kernel else None
    weights = {"weight_bytes": 4321 if macs else 0, "weight_bytes_in_ram": 0}
    sizes: dict[str, Any] = {"macs": macs, **weights, "output_bytes": 765, "operands": []}
    return {"name": name, "op": kernel or "copy", "kernel": kernel, "schedule": schedule, **sizes, **more}


def buffer(index: int, offset: int, size_bytes: int, first: int, last: int) -> dict[str, int]:
    return {"buffer": index, "offset": offset, "size_bytes": size_bytes, "first": first, "last": last}


def tensor(name: str, **more: Any) -> dict[str, Any]:
    described = {"name": name, "shape": [1, 7, 3], "dtype": "int8", "scale": 0.5, "zero_point": -3, "size_bytes": 21}
    return {**described, "workspace_offset": None, **more}


@pytest.fixture
def metadata() -> Metadata:
    """Return four calls, two of them of one kernel and one of none, and a workspace of 2,000 bytes."""
    return {
        "model": "small",
        "target": "cortex-m4",
        "float_abi": "hard",
        "options": {"goal": "ram", "disabled_passes": ["tinyml.A", "tinyml.B"]},
        "version": "1.2.3",
        "tvm": "4.5.6",
        "macs": 70_000,
        "macs_executed": 60_000,
        "ram_bytes": {"workspace": 2000, "stack": 300, "static": 40, "total": 2340},
        "flash_bytes": {"weights": 12_963, "code": 1777, "total": 14_740},
        "kernels": {"total": 2, "tuned": 1},
        "layers": [
            layer("a0", "ka", 30_000),
            layer("a1", "ka", 20_000),
            layer("c0", None, 0),
            layer("b0", "kb", 10_000),
        ],
        "code_bytes": {"ka": 1000, "kb": 500, "small_run": 270},
        "inputs": [tensor("image")],
        "outputs": [tensor("score", scale=None, zero_point=None, workspace_offset=1600)],
        "inputs_destroyed": False,
        "memory_map": [buffer(0, 0, 1200, 0, 1), buffer(1, 1200, 800, 1, 2), buffer(2, 0, 400, 2, 3)],
    }


@pytest.fixture(scope="module")
def library() -> tinyml.Library:
    return tinyml.build(tinyml.load(keyword_spotting().data, name="kws"), "cortex-m4")


def with_cycles(metadata: Metadata) -> Metadata:
    layers = [{**layer, "cycles": 200 * i, "instructions": 100 * i} for i, layer in enumerate(metadata["layers"], 1)]
    return {**metadata, "layers": layers, "cycles": 90_000, "instructions": 70_000, "memory": "zero-wait"}


def test_head_says_what_was_compiled_for_what_with_what(metadata: Metadata) -> None:
    page = Page(report(metadata))
    assert page.texts("title")[0] == "small for cortex-m4"
    assert page.texts("h1") == ["small for cortex-m4"]
    (options,) = page.texts("dl", "options")
    assert options == "tvm-tinyml1.2.3TVM4.5.6float ABIhardgoalramdisabled passestinyml.A, tinyml.B"


def test_cards_give_the_sums_and_their_parts(metadata: Metadata) -> None:
    assert Page(report(metadata)).texts("div", "card") == [
        "MACs60,000in the model70,000layers4with MACs3",
        "RAM2,340 bytesworkspace2,000stack300static40",
        "Flash14,740 bytesweights12,963code1,777",
        "Kernels2tuned1",
    ]


def test_layers_are_listed_in_order_and_shared_code_is_counted_once(metadata: Metadata) -> None:
    assert Page(report(metadata)).rows(0) == [
        ["Call", "Layer", "Operator", "Schedule", "MACs", "Weights", "Output", "Code"],
        ["0", "a0", "ka", "DotProductTile", "30,000", "4,321", "765", "shared by 2\u20021,000"],
        ["1", "a1", "ka", "DotProductTile", "20,000", "4,321", "765", "as call 0"],
        ["2", "c0", "copy", "–", "0", "0", "765", "–"],
        ["3", "b0", "kb", "DotProductTile", "10,000", "4,321", "765", "500"],
        ["", "Total", "", "", "60,000", "12,963", "", "1,500"],
    ]
    assert "The rest of the 1,777 bytes of code, 277, is" in report(metadata)


def test_weights_that_lie_in_ram_are_marked(metadata: Metadata) -> None:
    metadata["layers"][0]["weight_bytes_in_ram"] = 4321
    metadata["layers"][1]["weight_bytes_in_ram"] = 1234
    weights = [row[5] for row in Page(report(metadata)).rows(0)]
    assert weights == ["Weights", "in RAM\u20024,321", "1,234 in RAM\u20024,321", "0", "4,321", "12,963"]


def test_bars_are_as_long_as_the_share_of_the_largest(metadata: Metadata) -> None:
    assert [bar["style"] for bar in Page(report(metadata)).all("i")] == ["width:100.0%", "width:66.7%", "width:33.3%"]


def test_cycles_are_shown_only_when_they_were_counted_and_as_an_estimate(metadata: Metadata) -> None:
    assert "nstruction" not in report(metadata)
    assert "ycles" not in report(metadata)
    page = Page(report(with_cycles(metadata)))
    assert [row[5] for row in page.rows(0)] == ["Cycles", "200", "400", "600", "800", "2,000"]
    assert [row[6] for row in page.rows(0)] == ["Instructions", "100", "200", "300", "400", "1,000"]
    card = page.texts("div", "card")[-1]
    assert card == "Cycles, estimated90,000per MAC1.50instructions70,000memoryzero-wait"
    assert "Cycles are an estimate of timing model" in report(with_cycles(metadata))


def test_a_layer_without_a_count_among_others_is_left_open(metadata: Metadata) -> None:
    metadata["layers"][1]["instructions"] = 7
    page = Page(report(metadata))
    assert [row[5] for row in page.rows(0)] == ["Instructions", "–", "7", "–", "–", "7"]
    assert len(page.all("div", "card")) == 4


def test_every_buffer_is_drawn_to_scale(metadata: Metadata) -> None:
    drawn = Page(report(metadata)).all("rect", "buffer")
    call = (MAP_WIDTH - LEFT - RIGHT) / 4
    byte = (MAP_HEIGHT - TOP - BOTTOM) / 2000
    assert len(drawn) == len(metadata["memory_map"])
    for rectangle, expected in zip(drawn, metadata["memory_map"], strict=True):
        x, y, width, height = (float(rectangle[key]) for key in ("x", "y", "width", "height"))
        end = expected["offset"] + expected["size_bytes"]
        assert x == pytest.approx(LEFT + expected["first"] * call, abs=0.01)
        assert width == pytest.approx((expected["last"] + 1 - expected["first"]) * call, abs=0.01)
        assert y == pytest.approx(MAP_HEIGHT - BOTTOM - end * byte, abs=0.01)
        assert height == pytest.approx(expected["size_bytes"] * byte, abs=0.01)
    assert drawn[1]["text"] == "buffer 1: 800 bytes at offset 1,200, calls 1 (a1) to 2 (c0)"
    assert [rectangle["class"] for rectangle in drawn] == ["buffer", "buffer top", "buffer"]


def test_every_buffer_is_in_the_table_for_those_who_cannot_hover(metadata: Metadata) -> None:
    assert Page(report(metadata)).rows(1) == [
        ["Buffer", "Offset", "Bytes", "First call", "Last call"],
        ["0", "0", "1,200", "0 a0", "1 a1"],
        ["1", "1,200", "800", "1 a1", "2 c0"],
        ["2", "0", "400", "2 c0", "3 b0"],
    ]


def test_high_water_mark_is_the_size_of_the_workspace(metadata: Metadata) -> None:
    page = Page(report(metadata))
    assert page.texts("text", "mark") == ["high-water mark: 2,000 bytes"]
    (mark,) = page.all("line", "mark")
    (highest,) = page.all("rect", "top")
    assert float(mark["y1"]) == float(mark["y2"]) == float(highest["y"])


def test_the_busiest_call_is_named(metadata: Metadata) -> None:
    assert "Most bytes are in use at call 1, a1: 2,000 of 2,000." in report(metadata)


def test_axes_are_marked_in_bytes_and_calls(metadata: Metadata) -> None:
    labels = [e["text"] for e in Page(report(metadata)).all("text")]
    assert labels[:5] == ["0", "500", "1,000", "1,500", "offset in bytes"]
    assert labels[5:10] == ["0a0", "1a1", "2c0", "3b0", "call"]  # with the title that shows on hovering


def test_no_workspace_is_no_drawing(metadata: Metadata) -> None:
    metadata["memory_map"], metadata["ram_bytes"]["workspace"] = [], 0
    page = Page(report(metadata))
    assert page.all("svg") == []
    assert "The library needs no workspace." in page.texts("p")


def test_no_macs_divide_nothing(metadata: Metadata) -> None:
    metadata["macs_executed"] = 0
    metadata["layers"] = [{**layer, "macs": 0} for layer in metadata["layers"]]
    card = Page(report(with_cycles(metadata))).texts("div", "card")[-1]
    assert card == "Cycles, estimated90,000instructions70,000memoryzero-wait"


def test_inputs_and_outputs_are_described(metadata: Metadata) -> None:
    assert Page(report(metadata)).rows(2) == [
        ["", "Name", "Shape", "Type", "Scale", "Zero point", "Bytes", "Where"],
        ["input 0", "image", "1 × 7 × 3", "int8", "0.5", "-3", "21", "the caller's buffer"],
        ["output 0", "score", "1 × 7 × 3", "int8", "–", "–", "21", "workspace, offset 1,600"],
    ]


def test_inputs_that_a_run_destroys_are_said_so(metadata: Metadata) -> None:
    assert "destroys the inputs" not in report(metadata)
    assert "destroys the inputs" in report({**metadata, "inputs_destroyed": True})


def test_files_are_listed_when_they_are_known(metadata: Metadata) -> None:
    assert "Files" not in Page(report(metadata)).texts("h2")
    page = Page(report({**metadata, "files": {"include/a.h": 1000, "lib/a.a": 234}}))
    assert "Files" in page.texts("h2")
    assert page.rows(3) == [["Path", "Bytes"], ["include/a.h", "1,000"], ["lib/a.a", "234"], ["Total", "1,234"]]


def test_figures_are_said_to_be_exact_and_not_measured(metadata: Metadata) -> None:
    assert "Sizes are exact" in report(metadata)
    assert "No board was measured." in report(metadata)


def test_names_are_text_and_never_markup(metadata: Metadata) -> None:
    plain = Page(report({**metadata, "files": {"f": 1}}))
    nasty = copy.deepcopy(metadata)
    nasty.update(dict.fromkeys(("model", "target", "version", "tvm", "float_abi"), NASTY))
    nasty["options"] = {"goal": NASTY, NASTY: [NASTY, NASTY]}
    nasty["code_bytes"] = {NASTY: 1000, "kb": 500}
    nasty["files"] = {NASTY: 1}
    for each in nasty["layers"]:
        each["kernel"] = NASTY if each["kernel"] == "ka" else each["kernel"]
        each.update(name=NASTY, op=NASTY, schedule=NASTY)
    for each in (*nasty["inputs"], *nasty["outputs"]):
        each.update(name=NASTY, dtype=NASTY)
    page = Page(report(nasty))
    assert [e["tag"] for e in page.elements] == [e["tag"] for e in plain.elements]
    assert [sorted(e) for e in page.elements] == [sorted(e) for e in plain.elements]
    assert page.texts("h1") == [f"{NASTY} for {NASTY}"]
    assert [row[1:4] for row in page.rows(0)[1:-1]] == [[NASTY] * 3] * 4
    assert page.rows(2)[1][1] == NASTY
    assert page.rows(3)[1][0] == NASTY
    assert page.all("rect")[0]["text"] == f"buffer 0: 1,200 bytes at offset 0, calls 0 ({NASTY}) to 1 ({NASTY})"
    assert [cell["title"] for cell in page.all("td") if cell.get("title") == NASTY] == [NASTY] * 2


def test_page_is_one_file_without_scripts(metadata: Metadata) -> None:
    html = report(with_cycles({**metadata, "files": {"f": 1}}))
    page = Page(html)
    assert "://" not in html
    assert not re.search(r"url\(|@import|\b(src|href|on[a-z]+)\s*=", html)
    assert {e["tag"] for e in page.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    policy = next(e["content"] for e in page.all("meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_page_knows_dark_narrow_and_paper(metadata: Metadata) -> None:
    html = report(metadata)
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media print" in html
    assert 'name="viewport"' in html
    wide = [e for e in Page(html).elements if e["tag"] in ("table", "svg")]
    assert all(e["parents"][-1] == "div" for e in wide)
    assert len(Page(html).all("div", "scroll")) == len(wide)


def test_same_metadata_same_page(metadata: Metadata) -> None:
    before = copy.deepcopy(metadata)
    assert report(metadata) == report(copy.deepcopy(metadata))
    assert metadata == before


def test_library_brings_its_report(library: tinyml.Library) -> None:
    metadata, page = library.metadata, Page(report(library.metadata))
    assert library.report().startswith("<!doctype html>")
    assert [row[1] for row in page.rows(0)[1:-1]] == [layer["name"] for layer in metadata["layers"]]
    assert len(page.all("rect", "buffer")) == len(metadata["memory_map"])
    assert page.texts("text", "mark") == [f"high-water mark: {metadata['pools']['sram']['size_bytes']:,} bytes"]
    assert min(float(rectangle["y"]) for rectangle in page.all("rect")) >= TOP


@needs_simulator
def test_counts_of_a_profile_fill_the_column(library: tinyml.Library) -> None:
    profile = library.profile()
    layers = [
        {**layer, "instructions": counted.instructions}
        for layer, counted in zip(library.metadata["layers"], profile.layers, strict=True)
    ]
    page = Page(report({**library.metadata, "layers": layers, "instructions": profile.instructions}))
    assert [row[5] for row in page.rows(0)[1:-1]] == [f"{counted.instructions:,}" for counted in profile.layers]
