"""Objects of another compiler: what LLVM does not emit, such as switch tables, merged strings and section groups."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from device.thumb import CORES
from simulated import needs_simulator

from tvm_tinyml.device import Simulator, read_archive, strip

pytestmark = [
    needs_simulator,
    pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="needs arm-none-eabi-gcc"),
]

SOURCE = """
#include <stdint.h>
static const char *const names[] = {"zero", "one", "two", "three"};
static int calls;
int state = 5;
extern int elsewhere(int);
typedef int (*operation)(int);
static int twice(int x) { return 2 * x; }
static const operation operations[] = {twice, elsewhere};

int name_length(int i) { int n = 0; for (const char *p = names[i & 3]; *p; p++) n++; return n; }
int by_switch(int i) {
    switch (i) {
    case 0: return 17; case 1: return state; case 2: return elsewhere(3); case 3: return 99;
    case 4: return ++calls; case 5: return -i; case 6: return i * state; default: return -1;
    }
}
int by_pointer(int which, int x) { return operations[which](x); }
int mixed(int a, int b) { return a / b * 1000 + a % b; }
int wide(int a, int b) { int64_t p = (int64_t)a * b; p = (p << 3) + a; return (int)(p >> 17); }
struct big { int v[20]; };
int copies(int x) {
    struct big b = {{0}};
    for (int i = 0; i < 20; i++) b.v[i] = x + i;
    volatile struct big c = b;
    int s = 0;
    for (int i = 0; i < 20; i++) s += c.v[i];
    return s;
}
"""
ELSEWHERE = "int elsewhere(int x) { return x + 1000; }"

Compile = Callable[..., bytes]


@pytest.fixture
def compile_c(tmp_path: Path) -> Compile:
    def compile_(source: str, core: str, *options: str) -> bytes:
        (tmp_path / "x.c").write_text(source)
        command = ["arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb", "-ffreestanding", "-g", "-c", "x.c", "-o", "x.o"]
        # For switches on Armv6-M gcc calls helpers of its own library, which our runtime does not have.
        command += ["-fno-jump-tables"] if core == "cortex-m0plus" else []
        subprocess.run([*command, *options], cwd=tmp_path, check=True)
        return (tmp_path / "x.o").read_bytes()

    return compile_


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("options", ["-O0", "-Os", "-O2 -funroll-loops -fdata-sections -ffunction-sections"])
def test_objects_of_gcc_compute_what_c_says(compile_c: Compile, core: str, options: str) -> None:
    objects = [compile_c(SOURCE, core, *options.split()), compile_c(ELSEWHERE, core, *options.split())]
    for prepared in (objects, [strip(data) for data in objects]):
        with Simulator(core) as simulator:
            simulator.load(prepared)

            def value(name: str, *arguments: int, simulator: Simulator = simulator) -> int:
                return simulator.call(name, *arguments).value

            assert [value("name_length", i) for i in range(4)] == [4, 3, 3, 5]
            assert [value("by_switch", i) for i in range(8)] == [17, 5, 1003, 99, 1, -5, 30, -1]
            assert (value("by_pointer", 0, 21), value("by_pointer", 1, 21)) == (42, 1021)
            assert value("mixed", 1234, 100) == 12_034
            assert value("mixed", -1234, 100) == -12_034
            a, b = 123_456_789, -98_765
            assert value("wide", a, b) == ((a * b << 3) + a) >> 17
            assert value("copies", 7) == sum(7 + i for i in range(20))


def test_an_archive_of_gcc_objects_is_loaded(compile_c: Compile, tmp_path: Path) -> None:
    for name, source in (
        ("one", "int two(void); int one(void) { return two() + 1; }"),
        ("two", "int two(void) { return 2; }"),
    ):
        (tmp_path / f"{name}.o").write_bytes(compile_c(source, "cortex-m4"))
    subprocess.run(["arm-none-eabi-ar", "rcs", "lib.a", "one.o", "two.o"], cwd=tmp_path, check=True)
    with Simulator("cortex-m4") as simulator:
        simulator.load([data for _, data in read_archive((tmp_path / "lib.a").read_bytes())])
        assert simulator.call("one").value == 3
