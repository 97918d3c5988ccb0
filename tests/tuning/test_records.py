"""Records and entries: only what can be measured, and of many records the best, in whatever order they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.tuning.made import key, random_record, record
from tvm_tinyml.tuning.records import BUDGETS_BYTES, MOST_RECORDS, Entry, Record, describe, digest_of, key_text

Costs = Callable[[Record], Any]


def costs(found: Record) -> tuple[int, ...]:
    return *(found.cycles[name] for name in sorted(found.cycles)), found.workspace_bytes, found.code_bytes


def dominates(a: Record, b: Record) -> bool:
    return costs(a) != costs(b) and all(x <= y for x, y in zip(costs(a), costs(b), strict=True))


def test_a_record_survives_json() -> None:
    found = record()
    assert Record.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_record_does_not_follow_what_it_was_made_of() -> None:
    choice = {"kernel": "ConvGemm", "tiles": 8}
    found = record(choice=choice)
    choice["tiles"] = 4
    assert found.choice["tiles"] == 8


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"cycles": {}}, "cycles for 0 memories, and 1 to 16 belong there"),
        ({"cycles": {"zero-wait": 0}}, r"has 0 for 'cycles\.zero-wait', where a whole number from 1 to 2\*\*53"),
        ({"cycles": 7}, "'cycles' that are no object"),
        ({"cycles": {"zero-wait": 1.5}}, r"has 1\.5 for 'cycles\.zero-wait'"),
        ({"instructions": True}, "has True for 'instructions'"),
        ({"instructions": np.int64(7)}, "for 'instructions', where a whole number from 1"),
        ({"workspace_bytes": -1}, "has -1 for 'workspace_bytes', where a whole number from 0"),
        ({"code_bytes": 2**53 + 1}, "has 9007199254740993 for 'code_bytes'"),
        ({"choice": {"tiles": 8}}, r"has None for 'choice\.kernel', where a text belongs"),
        ({"choice": {"kernel": "ConvGemm", "tiles": None}}, r"has None for 'choice\.tiles'"),
        ({"choice": {"kernel": "ConvGemm", "copies": True}}, "choice with a boolean"),
        ({"choice": {"kernel": "ConvGemm", "tiles": [8]}}, r"'choice\.tiles', which is nested too deeply"),
        ({"choice": {"kernel": "a\n"}}, "where a printable text of 0 to 1000 letters"),
        ({"choice": {"kernel": "a", **{f"knob {i:900}": 1 for i in range(12)}}}, r"choice of \d+ letters, and 10000"),
        ({"tvm": ""}, "has '' for 'tvm'"),
        ({"model_version": 1}, "has 1 for 'model_version', where a text belongs"),
    ],
)
def test_a_record_has_no_values_that_no_measurement_gives(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        record(**fields)


def test_equal_keys_have_equal_texts() -> None:
    shuffled = dict(reversed(key().items()))
    shuffled["shapes"] = tuple(tuple(shape) for shape in shuffled["shapes"])
    assert key_text(shuffled) == key_text(key())
    assert digest_of(shuffled) == digest_of(key()) != digest_of(key(channels=65))
    assert key_text({"operator": "add", "b": [1, 2], "a": "ü"}) == '{"a":"\\u00fc","b":[1,2],"operator":"add"}'


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"operator": "../conv2d"},
        {"operator": "Conv2D"},
        {"operator": ["conv2d"]},
        {**key(), "scale": 0.5},
        {**key(), "scale": None},
        {**key(), "deep": [[[[[[1]]]]]]},
        {**key(), 7: "seven"},
        {**key(), "many": [0] * 10_000},
        [key()],
    ],
)
def test_a_key_is_plain_and_names_its_operator(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^has "):
        key_text(wrong)


def test_a_key_is_described_by_operator_and_shapes() -> None:
    assert describe(key()) == "conv2d [1,25,5,64] [64,1,1,64] [64]"
    assert describe({"operator": "add"}) == "add"


@pytest.mark.parametrize("count", [1, 2, 5, 20, 200])
def test_what_is_kept_is_what_every_wish_finds_by_brute_force(count: int, rng: np.random.Generator) -> None:
    for _ in range(20):
        found = [random_record(rng) for _ in range(count)]
        kept = Entry(key(), count, found).records
        assert 1 <= len(kept) <= min(count, MOST_RECORDS)
        assert [r.slowest_cycles for r in kept] == sorted(r.slowest_cycles for r in kept)
        assert all(r in found for r in kept)
        assert not any(dominates(a, b) for a in found for b in kept)
        assert len({costs(r) for r in kept}) == len(kept)
        for budget in BUDGETS_BYTES:
            within = [[r for r in rs if r.workspace_bytes <= budget] for rs in (found, kept)]
            every, ours = ([r.slowest_cycles for r in rs] for rs in within)
            assert min(ours, default=None) == min(every, default=None)
        wishes: list[Costs] = [
            lambda r: (r.slowest_cycles, r.workspace_bytes),
            lambda r: (r.fastest_cycles, r.slowest_cycles),
            lambda r: (r.workspace_bytes, r.slowest_cycles),
            lambda r: (r.code_bytes, r.slowest_cycles),
        ]
        for wish in wishes:
            assert min(map(wish, kept)) == min(map(wish, found))


def test_of_equal_costs_the_first_choice_stays() -> None:
    choices = [{"kernel": name} for name in ("b", "a", "c")]
    kept = Entry(key(), 3, [record(choice=choice) for choice in choices]).records
    assert [r.choice for r in kept] == [{"kernel": "a"}]


def test_no_more_than_eight_are_kept_though_all_are_pareto_best() -> None:
    found = [record(cycles={"zero-wait": 1000 - i}, workspace_bytes=16 * i) for i in range(1, 500)]
    kept = Entry(key(), 500, found).records
    assert [r.workspace_bytes for r in kept] == [16 * 499, 4096, 1024, 256, 16]


def test_entries_are_merged_in_any_order(rng: np.random.Generator) -> None:
    for _ in range(60):
        a, b, c = (
            Entry(key(), int(rng.integers(1, 9)), [random_record(rng, 40) for _ in range(rng.integers(1, 25))])
            for _ in range(3)
        )
        assert merged(a, b) == merged(b, a)
        assert merged(merged(a, b), c) == merged(a, merged(b, c))
        assert merged(merged(a, b), b) == merged(a, b)
        assert merged(a, a) == a


def merged(a: Entry, b: Entry) -> Entry:
    return a.with_(b.records, b.trials)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"model_version": "9", "tvm": "0.28.0"}, {"model_version": "10", "tvm": "0.27.0"}),
        ({"tvm": "0.9.0"}, {"tvm": "0.27.0.post1"}),
        ({"cycles": {"zero-wait": 10}}, {"cycles": {"zero-wait": 99, "l4r5zi-120": 99}}),
    ],
)
def test_what_was_measured_the_latest_way_counts_whatever_it_says(old: dict[str, Any], new: dict[str, Any]) -> None:
    worse, better = {"zero-wait": 99, "l4r5zi-120": 99}, {"zero-wait": 10, "l4r5zi-120": 10}
    before = record(**{"cycles": better, **old})
    after = record(**{"cycles": worse, **new})
    first, second = Entry(key(), 500, [before]), Entry(key(), 20, [after])
    assert merged(first, second) == merged(second, first) == second
    assert Entry(key(), 20, [before, after, before]) == second


def test_versions_of_any_form_can_be_compared(rng: np.random.Generator) -> None:
    versions = ["1", "1.0", "1-a", "a1", "a", "01", "10", "9", "1.10", "1.9", "²", "ü1"]
    entries = [Entry(key(), 1, [record(model_version=version)]) for version in versions]
    newest = set()
    for _ in range(20):
        shuffled = [entries[i] for i in rng.permutation(len(entries))]
        last = shuffled[0]
        for entry in shuffled[1:]:
            last = merged(last, entry)
        newest.add(last.records[0].model_version)
    assert newest == {"10"}


def test_an_entry_has_records_and_trials() -> None:
    with pytest.raises(ValueError, match="has no records"):
        Entry(key(), 5, [])
    with pytest.raises(ValueError, match="has 0 for 'trials', where a whole number from 1"):
        Entry(key(), 0, [record()])
