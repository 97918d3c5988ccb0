"""The recipe for continuous integration works as ``docs/ci.md`` says, in a repository with a log and with changes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tvm_tinyml.benchmark import bench
from tvm_tinyml.cli import main, parser

ROOT = Path(__file__).parents[2]
SCRIPT, WORKFLOW, PAGE = (ROOT / "docs" / name for name in ("ci/tuned-build.sh", "ci/tuned-build.yml", "ci.md"))
MODEL, FIGURES = Path("models/kws.tflite"), Path("models/kws.tflite.bench.json")
ACCEPT = f"commit what this writes: tvm-tinyml bench build/kws --json {FIGURES}\n"
BUILD = ("--target", "cortex-m4", "--memory", "l4r5zi-120", "--tuning-log", "tuning")


def convolutions(count: int, channels: int = 8) -> bytes:
    """A model of convolutions with 8 channels each, and `channels` at the input."""
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 8, 8, channels), (0.5, 3))
    for _ in range(count):
        x = graph.conv(x, 8, (3, 3))
    return graph.finish("kws", x).data


class Project:
    """A user's repository with the recipe."""

    def __init__(self, folder: Path) -> None:
        for tool in ("git", "bash"):
            if not shutil.which(tool):
                pytest.skip(f"needs {tool}")
        (folder / "bin").mkdir()
        command = folder / "bin" / "tvm-tinyml"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tvm_tinyml "$@"\n')
        command.chmod(0o755)
        who = {f"GIT_{role}_{field}": "user@example" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_"))}
        self.environment = {
            **outside,
            **who,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self.folder = folder / "project"
        for name in ("ci", "models", "tuning"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(SCRIPT, self.folder / "ci")
        (self.folder / "tuning" / ".gitignore").write_text("trials.jsonl\n.lock\n")
        (self.folder / ".gitignore").write_text("/build/\n")
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> str:
        """Run git and return what it printed."""
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def commit(self, **files: bytes) -> None:
        """Commit everything, with a model or figures of new content."""
        for name, content in files.items():
            (self.folder / {"model": MODEL, "figures": FIGURES}[name]).write_bytes(content)
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")

    def build(self, **environment: str) -> tuple[int, str, str]:
        """Run the script; return its exit code, what went to the page of the job, and its errors."""
        page = self.folder.parent / "summary.md"
        page.unlink(missing_ok=True)
        done = subprocess.run(
            ["ci/tuned-build.sh", str(MODEL), "build/kws", *BUILD],
            cwd=self.folder,
            env={**self.environment, "GITHUB_STEP_SUMMARY": str(page), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        summary = page.read_text() if page.exists() else ""
        assert done.stdout.endswith(summary)
        return done.returncode, summary, done.stderr


def encoded(figures: dict[str, Any]) -> bytes:
    return json.dumps(figures).encode()


@pytest.mark.slow
def test_a_project_is_built_with_its_log_and_compared_with_its_last_commit(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.commit(model=convolutions(1))
    log = project.folder / "tuning"
    tune = ["tune", project.folder / MODEL, "--target", "cortex-m4", "--tuning-log", log, "--trials", 1, "--quiet"]
    assert main([str(word) for word in tune]) == 0
    model = tinyml.load(convolutions(1), name="kws")
    one = bench(tinyml.build(model, "cortex-m4", emit="lib", memory="l4r5zi-120", tuning_log=str(log)))
    project.commit(figures=encoded(one))
    tracked = project.git("ls-files", "tuning").split()
    assert tracked == ["tuning/.gitignore", "tuning/cortex-m4/conv2d.json"]

    # A second convolution like the first needs no record of its own; it costs more than was accepted.
    project.commit(model=convolutions(2))
    code, summary, errors = project.build(BASE="HEAD^")
    two = bench(tinyml.Library.read(project.folder / "build" / "kws"))
    assert two["kernels"]["total"] == two["kernels"]["tuned"] > 0
    for name in ("cycles", "instructions"):
        assert f"\n| {name} | {one[name]:,} | {two[name]:,} | {growth(one, two, name):.2f} |\n" in summary
    assert f"\n| conv2d_1 | - | {two['layers'][1]['cycles']:,} | - |\n" in summary
    assert code == 1
    assert f"tvm-tinyml: cycles grew by {growth(one, two, 'cycles'):.2f} %, from {one['cycles']:,} to " in errors
    assert errors.endswith(f"If that is meant, {ACCEPT}")

    # Other shapes need a record: nothing is built, and the operator is named.
    built = (project.folder / "build" / "kws" / "metadata.json").read_bytes()
    project.commit(model=convolutions(1, channels=6))
    code, summary, errors = project.build(BASE="HEAD^")
    assert (code, summary) == (2, "")
    assert "1 operators have no record for cortex-m4 in tuning" in errors
    assert "\n  conv2d [1,8,8,6] [8,3,3,6] [8] [8] [8]\n" in errors
    assert "tvm-tinyml tune MODEL --target cortex-m4 --tuning-log tuning." in errors
    assert (project.folder / "build" / "kws" / "metadata.json").read_bytes() == built


def growth(before: dict[str, Any], now: dict[str, Any], name: str) -> float:
    return 100 * (now[name] - before[name]) / before[name]


@pytest.fixture
def pretended(tmp_path: Path) -> Project:
    """A project whose compiler notes what it is asked for, and exits as $TABLE and $LIMIT say."""
    project = Project(tmp_path)
    (tmp_path / "bin" / "tvm-tinyml").write_text(
        '#!/bin/sh\necho "$*" >>build/commands\n'
        'case "$*" in compile*) mkdir -p build/kws;; *--markdown*) exit "$TABLE";; *) exit "$LIMIT";; esac\n'
    )
    project.environment |= {"TABLE": "0", "LIMIT": "0"}
    (project.folder / "build").mkdir()
    project.commit(model=b"model")
    return project


def test_without_figures_there_is_nothing_to_compare_with(pretended: Project) -> None:
    none = f"There is no {FIGURES} at HEAD to compare with.\n"
    first = "There is no commit HEAD^ here to compare with: this is the first, or a checkout without history.\n"
    accept = f"No figures were accepted yet. To accept these, {ACCEPT}"
    assert pretended.build() == (0, none + accept, "")
    assert pretended.build(BASE="HEAD^") == (0, first + accept, "")


def test_the_table_is_of_the_last_commit_and_the_limit_of_this_one(pretended: Project) -> None:
    pretended.commit(figures=b"accepted then")
    pretended.commit(figures=b"accepted now")
    assert pretended.build(BASE="HEAD^", FAIL_ABOVE="2.5") == (0, "", "")
    assert (pretended.folder / "build" / "commands").read_text().splitlines() == [
        f"compile {MODEL} -o build/kws {' '.join(BUILD)} --require-tuned --verify",
        "bench build/kws --against build/kws/before.json --markdown",
        f"bench build/kws --quiet --against {FIGURES} --fail-above 2.5",
    ]
    assert (pretended.folder / "build" / "kws" / "before.json").read_bytes() == b"accepted then"


def test_a_table_that_cannot_be_made_is_no_obstacle_and_figures_above_the_limit_are(pretended: Project) -> None:
    pretended.commit(figures=b"{}")
    summary = "The figures at HEAD cannot be compared; the log of this job says why.\n"
    assert pretended.build(TABLE="2") == (0, summary, "")
    for code in (1, 2):
        assert pretended.build(LIMIT=str(code)) == (code, "", f"If that is meant, {ACCEPT}")


def test_the_script_says_how_to_call_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    done = subprocess.run(
        ["ci/tuned-build.sh", str(MODEL)], cwd=project.folder, env=project.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "usage: ci/tuned-build.sh MODEL OUT OPTION...\n")


def commands(text: str) -> list[list[str]]:
    """Return the commands in a text that call the compiler or the script, line by line."""
    return [shlex.split(line, comments=True) for line in text.splitlines() if re.match(r"tvm-tinyml |ci/", line)]


def check(command: list[str]) -> None:
    """Parse a command; the parser exits when there is no such option."""
    name, *arguments = command
    if name == "ci/tuned-build.sh":
        model, out, *options = arguments
        arguments = ["compile", model, "-o", out, *options]
    parser().parse_args(arguments)


def test_commands_of_the_page_are_commands() -> None:
    shown = commands(PAGE.read_text(encoding="utf-8"))
    assert {command[0] for command in shown} == {"tvm-tinyml", "ci/tuned-build.sh"}
    for command in shown:
        check(command)


def build_of_the_workflow() -> list[str]:
    build = re.search(r"run: >-\n((?: {10}\S.*\n)+)", WORKFLOW.read_text(encoding="utf-8"))
    assert build
    (command,) = commands(" ".join(line.strip() for line in build[1].splitlines()))
    return command


def test_the_workflow_installs_builds_and_keeps_the_library() -> None:
    text, command = WORKFLOW.read_text(encoding="utf-8"), build_of_the_workflow()
    check(command)
    assert f"path: {command[2]}\n" in text
    assert f"tvm-tinyml[sim]=={tinyml.__version__}'" in text
    assert "fetch-depth: 2" in text
    assert "BASE: HEAD^" in text


def test_the_workflow_is_yaml_with_steps_in_order() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    checkout, python, install, build, upload = job["steps"]
    assert checkout["with"] == {"fetch-depth": 2}
    assert python["with"]["cache"] == "pip"
    assert install["run"].startswith("pip install ")
    assert shlex.split(build["run"]) == build_of_the_workflow()
    assert build["env"] == {"BASE": "HEAD^", "FAIL_ABOVE": 1}
    assert upload["with"]["path"] == build_of_the_workflow()[2]
