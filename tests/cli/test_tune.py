"""``tune``: what it prints and writes, what is wrong use, and what is left of it after Ctrl-C and worse."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

import tvm_tinyml as tinyml
from tests.cli.conftest import Refused, Run
from tests.library.builds import network
from tests.tuning.conftest import InProcess
from tests.tuning.networks import TARGET, model, tiny, twins
from tvm_tinyml.cli import main
from tvm_tinyml.tuning import check, choose, tune
from tvm_tinyml.tuning.journal import Journal
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH
from tvm_tinyml.tuning.records import Record

ROOT = Path(__file__).parents[2]
TUNE = ("tune", "tiny.tflite", "--target", TARGET, "--tuning-log", "log")
BUILD = ("compile", "tiny.tflite", "--target", TARGET, "-o", "new")
PROGRESS = re.compile(r"\d+/\d+ trials  \d+ s  about \d+ s left  [\d,]+ cycles \(\d+\.\d % saved\)")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure in this process, and forget the log that comes with the package."""
    monkeypatch.setattr(tune, "Workers", InProcess)
    monkeypatch.setattr(check, "Workers", InProcess)
    monkeypatch.setattr(choose, "shipped_log", lambda: Path("nothing is shipped"))
    choose._shipped.cache_clear()
    yield
    choose._shipped.cache_clear()


@pytest.fixture
def there(here: Path) -> Path:
    """Return the current folder, with the small networks to tune in it."""
    for each in (tiny(), twins()):
        Path(f"{each.name}.tflite").write_bytes(each.data)
    Path("through.tflite").write_bytes(network("through").data)
    return here


@pytest.mark.usefixtures("there")
def test_a_table_says_what_was_found(cli: Run) -> None:
    code, out, err = cli(*TUNE)
    assert (code, err) == (0, "")
    first, columns, *rows, cycles, trials = out.splitlines()
    assert PROGRESS.fullmatch(first)
    assert columns.split() == "operator layers choices tried cycles tuned saved, % with".split()
    assert rows[0].startswith("dense [1,3] [7,3]")
    assert re.fullmatch(r"cycles [\d,]+ without tuning, [\d,]+ with", cycles)
    assert re.fullmatch(r"trials \d+ measured in \d+ s \(.* a second\), \d+ of .* no kernel, 0 were known", trials)
    again = cli(*TUNE).out
    assert re.search(r"trials 1 measured in \d+ s .*, \d+ were known", again)
    assert "stale" not in again


@pytest.mark.usefixtures("there")
def test_quiet_prints_nothing(cli: Run) -> None:
    assert cli(*TUNE, "--quiet") == (0, "", "")
    assert len(TuningLog.load("log", TARGET)) == 1
    assert cli(*TUNE, "--quiet", "--check") == (0, "", "")


@pytest.mark.usefixtures("there")
def test_what_is_stale_is_said(cli: Run) -> None:
    cli(*TUNE, "-q")
    path = Path("log", TARGET, "dense.json")
    content = json.loads(path.read_text())
    content["entries"][0]["records"][0]["cycles"][FLASH] = 3
    path.write_text(json.dumps(content))
    assert cli(*TUNE).out.splitlines()[-1].startswith("stale  dense [1,3] [7,3]")


@pytest.mark.usefixtures("there")
def test_json_is_for_programs(cli: Run) -> None:
    printed = cli(*TUNE, "--json", "-", "--trials", "4")
    assert (printed.code, printed.err) == (0, "")
    found = json.loads(printed.out)
    assert (found["target"], found["memory"], found["trials"], found["known"]) == (TARGET, FLASH, 4, 0)
    assert found["stale"] == []
    assert found["cycles"]["tuned"] <= found["cycles"]["default"]
    (operator,) = found["operators"]
    assert operator["key"]["operator"] == "dense"
    assert operator["default"][FLASH] == found["cycles"]["default"]
    assert operator["best"]["cycles"][FLASH] == found["cycles"]["tuned"]
    assert operator["layers"]
    written = cli(*TUNE, "--json", "found.json", "--trials", "4")
    assert PROGRESS.match(written.out)
    assert json.loads(Path("found.json").read_text())["operators"][0]["key"] == operator["key"]


@pytest.mark.usefixtures("there")
def test_check_looks_and_touches_nothing(cli: Run) -> None:
    cli(*TUNE, "-q")
    text = f"1 of 1 operators with more than one kernel have records for {TARGET}\n"
    before = {path: path.stat().st_mtime_ns for path in Path("log").rglob("*")}
    assert cli(*TUNE, "--check") == (0, text, "")
    assert cli(*TUNE, "--check", "--replay") == (0, text, "")
    assert {path: path.stat().st_mtime_ns for path in Path("log").rglob("*")} == before
    code, out, err = cli("tune", "twins.tflite", *TUNE[2:], "--check")
    assert (code, out) == (1, f"0 of 2 operators with more than one kernel have records for {TARGET}\n")
    assert [line.rpartition(": ")[2] for line in err.splitlines()] == ["no record"] * 2


@pytest.mark.usefixtures("there")
def test_another_log_is_merged_first(cli: Run) -> None:
    cli("tune", "twins.tflite", *TUNE[2:5], "other", "-q", "--trials", "3")
    assert cli(*TUNE, "-q", "--merge", "other").code == 0
    assert len(TuningLog.load("log", TARGET)) == 3
    shutil.rmtree("other")
    assert cli(*TUNE, "-q", "--prune").code == 0
    assert len(TuningLog.load("log", TARGET)) == 1


@pytest.mark.usefixtures("there")
def test_where_there_is_nothing_to_choose_that_is_said(cli: Run) -> None:
    outcome = cli("tune", "through.tflite", *TUNE[2:])
    text = f"no operator of this network has more than one kernel for {TARGET}: there is nothing to tune\n"
    assert outcome == (0, text, "")
    assert not Path("log").exists()
    found = json.loads(cli("tune", "through.tflite", *TUNE[2:], "--json", "-").out)
    assert (found["operators"], found["trials"]) == ([], 0)


@pytest.mark.usefixtures("there")
def test_a_build_says_how_much_was_tuned_or_what_is_missing(cli: Run) -> None:
    cli(*TUNE, "-q")
    outcome = cli(*BUILD, "--tuning-log", "log", "--require-tuned", "--verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert "tuned  1 of 1 kernels\n" in outcome.out
    assert json.loads(Path("new", "metadata.json").read_text())["options"]["tuning_log"] is True
    missing = cli("compile", "twins.tflite", *BUILD[2:], "--tuning-log", "log", "--require-tuned")
    assert (missing.code, missing.out) == (2, "")
    head, *operators, advice = missing.err.splitlines()
    assert head == f"tvm-tinyml: 2 operators have no record for {TARGET} in log that fits goal balanced:"
    assert [line.split()[0] for line in operators] == ["conv2d", "dense"]
    assert advice == f"Tune them: tvm-tinyml tune MODEL --target {TARGET} --tuning-log log."
    assert cli("compile", "twins.tflite", *BUILD[2:], "--tuning-log", "log").code == 0


def float_model() -> bytes:
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    shapes = {"x": (1, 4), "y": (1, 3)}
    ports = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items()]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "float", ports[:1], ports[1:], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no trials": (("--trials", "0"), "Option trials takes a number above 0, and 0 is given."),
    "trials below 0": (("--trials=-3",), "Option trials takes a number above 0, and -3 is given."),
    "trials of a kind": (("--trials", "many"), "tune: argument --trials: invalid int value: 'many'. See"),
    "minutes": (("--minutes", "nan"), "Option minutes takes a number above 0, and nan is given."),
    "cycles": (("--target-cycles", "0"), "Option target_cycles takes a number above 0, and 0 is given."),
    "workers": (("--workers", "0"), "Option workers takes a number above 0, and 0 is given."),
    "seed": (("--seed=-1",), "Option seed takes a number from 0 to 2147483647, and -1 is given."),
    "memory": (("--memory", "dram"), "Tuning counts cycles in memory l4r5zi-120 or zero-wait, not 'dram'."),
    "memory of a check": (("--check", "--memory", "dram"), "Tuning counts cycles in memory l4r5zi-120 or zero-wait"),
    "replay alone": (("--replay",), "--replay is for --check; tuning measures what is recorded again anyway."),
    "check and merge": (("--check", "--merge", "out"), "--check changes nothing: --merge and --prune have no place"),
    "check and prune": (("--check", "--prune"), "--check changes nothing: --merge and --prune have no"),
    "merge of nothing": (("--merge", "none"), "Tuning log 'none' cannot be read: No such file or directory."),
    "merge of something else": (("--merge", "out"), "Folder 'out' holds no tuning log: there is no <target>"),
    "json nowhere": (("--json", "none/x.json"), "Output file 'none/x.json' cannot be written: make the folder 'none'"),
    "json in a folder's place": (("--json", "out"), "Output file 'out' is a folder. Name a file."),
    "check of nothing": (("--check",), "Tuning log 'log' is not there. Make it: tvm-tinyml tune MODEL --target"),
    "unknown option": (("--trails", "3"), "tune: there is no option --trails. Did you mean '--trials'? See"),
}


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_one_line(name: str, refused: Refused) -> None:
    options, text = WRONG[name]
    assert text in refused(*TUNE, *options)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("tiny.tflite", "--target", "cortex-m5", "--tuning-log", "log"), "There is no target named 'cortex-m5'. Did"),
        (("tiny.tflite", "--target", TARGET), "tune: the following arguments are required: --tuning-log. See"),
        (("tiny.tflite", "--tuning-log", "log"), "tune: the following arguments are required: --target. See"),
        (("tiny.tflite", "--target", TARGET, "--tuning-log", ""), "argument --tuning-log: the path is empty. See"),
        (("none.tflite", *TUNE[2:]), "Model file 'none.tflite' cannot be read: No such file or directory."),
        (("tiny.tflite", "--target", TARGET, "--tuning-log", "x.npz"), "Tuning log 'x.npz/cortex-m4' cannot be"),
    ],
)
def test_what_is_missing_or_in_the_way_is_one_line(arguments: tuple[str, ...], text: str, refused: Refused) -> None:
    assert text in refused("tune", *arguments)


def test_a_float_model_is_refused(there: Path, refused: Refused) -> None:
    (there / "float.onnx").write_bytes(float_model())
    assert "This is a float network" in refused("tune", "float.onnx", *TUNE[2:])


@pytest.mark.usefixtures("there")
def test_a_folder_that_must_not_be_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", deny)
    assert refused(*TUNE) == "tvm-tinyml: Tuning log 'log/cortex-m4' cannot be written: Permission denied.\n"


@pytest.mark.usefixtures("there")
def test_a_damaged_log_is_one_line_of_every_command(cli: Run, refused: Refused) -> None:
    cli(*TUNE, "-q")
    path = Path("log", TARGET, "dense.json")
    path.write_bytes(path.read_bytes()[:100])
    for command in (TUNE, (*TUNE, "--check"), (*BUILD, "--tuning-log", "log")):
        assert f"Tuning log '{path}' is not JSON: " in refused(*command)


@pytest.mark.usefixtures("there", "without_engine")
def test_without_a_simulator_it_is_trouble_with_the_device(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tuning import conftest

    monkeypatch.setattr(conftest, "_measured", {})
    code, out, err = cli(*TUNE)
    assert (code, out) == (3, "")
    assert re.fullmatch(r"tvm-tinyml: dense .* cannot be measured for cortex-m4: device: .*\n", err)


# What follows runs in processes of its own.


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def start(folder: Path, *command: object, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([str(each) for each in command], cwd=folder, text=True, env=environment(), **pipes)


def alive(processes: list[psutil.Process], seconds: float = 5) -> list[psutil.Process]:
    """Return which of some processes are still there after a while."""
    end = time.monotonic() + seconds
    running = processes
    while running and time.monotonic() < end:
        time.sleep(0.05)
        running = [each for each in running if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return running


def trials_in(folder: Path) -> int:
    """Return how many trials the journal has; it must be whole."""
    return sum(map(len, Journal(folder, TARGET).read().trials.values()))


def check_complete(folder: Path) -> None:
    """Check that the log has the best of what the journal has."""
    log = TuningLog.load(folder, TARGET)
    history = Journal(folder, TARGET).read()
    for digest, trials in history.trials.items():
        entry = log.find(history.keys[digest])
        assert entry is not None
        best = min(trial.outcome.cycles[FLASH] for trial in trials if isinstance(trial.outcome, Record))
        assert min(record.cycles[FLASH] for record in entry.records) == best


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "count"), [(signal.SIGINT, 1), (signal.SIGKILL, 2)])
def test_ended_in_the_middle_it_leaves_all_that_was_measured_and_no_process(
    number: signal.Signals, count: int, tmp_path: Path
) -> None:
    """Ctrl-C reaches all processes of the terminal; what kills the tuner reaches only that."""
    (tmp_path / "twins.tflite").write_bytes(twins().data)
    options = ("--target", TARGET, "--tuning-log", "log", "--workers", str(count))
    process = start(
        tmp_path, sys.executable, "-m", "tvm_tinyml", "tune", "twins.tflite", *options, start_new_session=True
    )
    log = tmp_path / "log"
    wait_for(lambda: (log / TARGET / "trials.jsonl").exists() and trials_in(log) >= 5, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == count
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert alive(workers) == []
    assert trials_in(log) >= 5
    if number == signal.SIGINT:
        assert (process.returncode, err) == (130, "tvm-tinyml: interrupted.\n")
        assert all(PROGRESS.fullmatch(line) for line in out.splitlines())
        check_complete(log)
    assert len(TuningLog.load(log, TARGET)) == 2


SERVER = """
import os, sys
from tests.cli.test_tune import tune_on

tune_on("warm", "3")
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(tune_on("log", line.strip()))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def tune_on(log: str, trials: str) -> int:
    """Tune into a log, measuring in this process."""
    tune.Workers = InProcess  # type: ignore[misc]
    options = ("--target", TARGET, "--tuning-log", log, "--trials", trials, "--quiet")
    return main(["tune", "twins.tflite", *options])


def test_killed_at_any_moment_it_damages_nothing_and_goes_on(tmp_path: Path) -> None:
    """Six times; the process that is killed is forked from one that has everything loaded."""
    rng = random.Random(0)
    (tmp_path / "twins.tflite").write_bytes(twins().data)
    log = tmp_path / "log"
    server = start(tmp_path, sys.executable, "-c", SERVER, stdin=subprocess.PIPE, stderr=None)
    assert server.stdin
    assert server.stdout
    before, killed = 0, 0
    for _ in range(6):
        print(10**6, file=server.stdin, flush=True)
        child = int(server.stdout.readline())
        time.sleep(rng.uniform(0.1, 0.8))
        os.kill(child, signal.SIGKILL)
        assert server.stdout.readline() == "gone\n"
        killed += 1
        if log.exists():
            TuningLog.load(log, TARGET)
            now = trials_in(log)
            assert now >= before, "what was written down is lost"
            before = now
    assert killed == 6
    assert before > 0
    server.communicate(timeout=30)
    outcome = tinyml.tune(model(twins()), TARGET, tuning_log=log, trials=before + 5, resume=True)
    assert outcome.stale == []
    check_complete(log)
