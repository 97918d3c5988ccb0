"""What is shipped: every package and data file, one version, and a base that needs no extra."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tvm_tinyml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
LINKED = ("passes", "schedules", "targets")


def folder_of(package: str) -> Path:
    """Where a package lies according to package-dir, which also holds for what is below it."""
    parent, below = package, []
    while parent not in SETUPTOOLS["package-dir"]:
        parent, _, name = parent.rpartition(".")
        below.insert(0, name)
    return ROOT.joinpath(SETUPTOOLS["package-dir"][parent], *below)


def packages_on_disk() -> set[str]:
    found = set()
    for prefix, top in [("", "tvm_tinyml"), *(("tvm_tinyml.", name) for name in LINKED)]:
        for file in (ROOT / top).rglob("*.py"):
            folder = file.parent.relative_to(ROOT)
            if folder.parts[:2] not in {("tvm_tinyml", name) for name in LINKED}:  # found at the top already
                found.add(prefix + ".".join(folder.parts))
    return found


def test_every_folder_with_python_is_a_listed_package() -> None:
    assert set(SETUPTOOLS["packages"]) == packages_on_disk()


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_listed_package_is_no_namespace(package: str) -> None:
    assert (folder_of(package) / "__init__.py").is_file()


def test_every_data_file_is_shipped() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    not_data = (".py", ".so", ".pyd")
    forgotten = [
        str(file.relative_to(ROOT))
        for package in SETUPTOOLS["packages"]
        for file in folder_of(package).iterdir()
        if file.is_file() and not file.name.endswith(not_data) and not any(file.match(p) for p in patterns)
    ]
    assert forgotten == []


@pytest.mark.parametrize("name", LINKED)
def test_link_is_relative_and_resolves(name: str) -> None:
    link = ROOT / "tvm_tinyml" / name
    if not link.is_symlink():
        pytest.skip("a checkout without symbolic links: only type checking needs them")
    assert link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_version_has_one_source() -> None:
    version = PROJECT["project"]["version"]
    assert tvm_tinyml.__version__ == version == importlib.metadata.version("tvm-tinyml")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## .*\b{re.escape(version)}\b", changelog, re.MULTILINE)
    repeated = [str(f) for f in (ROOT / "tvm_tinyml").rglob("*.py") if f'__version__ = "{version}"' in f.read_text()]
    assert repeated == []


def test_tuning_works_with_the_base_install() -> None:
    from tvm.s_tir.meta_schedule.cost_model import XGBModel

    assert XGBModel(num_tuning_cores=2, tree_method="hist") is not None


EXTRAS = ("capstone", "onnxruntime", "pyocd", "serial", "sklearn", "tflite_micro", "torch", "unicorn")
BLOCK = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def python_without_extras(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCK + program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_base_imports_need_no_extra() -> None:
    modules = ["tvm_tinyml", "tvm_tinyml.cli", "tvm_tinyml.demo", *(f"tvm_tinyml.{name}" for name in LINKED)]
    python_without_extras("import importlib\n" + "".join(f"importlib.import_module({m!r})\n" for m in modules))


def test_demo_without_scikit_learn_says_what_to_install() -> None:
    program = """
from tvm_tinyml.demo import digits
from tvm_tinyml.errors import TinyMLError
try:
    digits()
except TinyMLError as error:
    print(error)
"""
    message = python_without_extras(program)
    assert "scikit-learn" in message
    assert "pip install 'tvm-tinyml[demo]'" in message


def test_top_level_folders_are_the_packages_of_the_same_name() -> None:
    for name in LINKED:
        module = __import__(f"tvm_tinyml.{name}", fromlist=[name])
        assert Path(module.__file__).resolve() == ROOT / name / "__init__.py"
