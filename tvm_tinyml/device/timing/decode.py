"""Thumb instructions as a timing model sees them: what class, which registers, in what role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from tvm_tinyml.device.timing.helium import GENERAL, PREDICATE, VECTOR, Decoded
from tvm_tinyml.device.timing.helium import decode as decode_helium
from tvm_tinyml.errors import DeviceError

_CONDITIONS = "eq ne hs lo mi pl vs vc hi ls ge lt gt le".split()

_DATA_PROCESSING = "adc add adr and bic eor mov mvn orn orr rsb sbc sub".split()

_MNEMONICS = {
    "alu": " ".join(_DATA_PROCESSING) + " addw subw movw movt cmp cmn tst teq",
    "shift": "asr lsl lsr ror rrx",
    "extend": "sxtb sxth uxtb uxth sxtb16 uxtb16 rev rev16 revsh rbit clz sel sadd8 sadd16 ssub8 ssub16 sasx ssax "
    "uadd8 uadd16 usub8 usub16 uasx usax shadd8 shadd16 shsub8 shsub16 shasx shsax uhadd8 uhadd16 uhsub8 uhsub16 "
    "uhasx uhsax",
    "bit_field": "sbfx ubfx bfi bfc pkhbt pkhtb sxtab sxtah sxtab16 uxtab uxtah uxtab16",
    "saturate": "ssat usat ssat16 usat16",
    "saturating_add": "qadd qsub qdadd qdsub qadd8 qadd16 qsub8 qsub16 qasx qsax uqadd8 uqadd16 uqsub8 uqsub16 uqasx "
    "uqsax usad8 usada8",
    "multiply": "mul smulbb smulbt smultb smultt smulwb smulwt smuad smuadx smusd smusdx smmul smmulr",
    "multiply_add": "mla mls",
    "multiply_add_dsp": "smlabb smlabt smlatb smlatt smlawb smlawt smlad smladx smlsd smlsdx smmla smmlar smmls smmlsr",
    "multiply_long": "smull umull",
    "multiply_add_long": "smlal umlal umaal smlalbb smlalbt smlaltb smlaltt smlald smlaldx smlsld smlsldx",
    "divide": "sdiv udiv",
    "load": "ldr",
    "load_narrow": "ldrb ldrh ldrsb ldrsh",
    "load_double": "ldrd",
    "load_multiple": "ldm ldmdb pop",
    "store": "str strb strh",
    "store_double": "strd",
    "store_multiple": "stm stmdb push",
    "branch": "b cbz cbnz " + " ".join(f"b{condition}" for condition in _CONDITIONS),
    "call": "bl",
    "call_register": "blx",
    "branch_register": "bx",
    "table_branch": "tbb tbh",
    "if_then": "it itt ite ittt itte itet itee itttt ittte ittet ittee itett itete iteet iteee",
    "hint": "nop hint yield sev pld pli",
    "system": "mrs msr dmb dsb isb cpsie cpsid",
    "float_add": "vadd vsub vabs vneg vcmp vcmpe vmaxnm vminnm vseleq vselge vselgt vselvs",
    "float_multiply": "vmul vnmul",
    "float_multiply_add": "vmla vmls vnmla vnmls vfma vfms vfnma vfnms",
    "float_divide": "vdiv vsqrt",
    "float_convert": "vcvt vcvtr vcvta vcvtn vcvtp vcvtm vcvtb vcvtt vrinta vrintn vrintp vrintm vrintr vrintx vrintz",
    "float_move": "vmov vmovx vins",
    "float_system": "vmrs vmsr",
    "float_load": "vldr",
    "float_store": "vstr",
    "float_load_multiple": "vldmia vldmdb vpop",
    "float_store_multiple": "vstmia vstmdb vpush",
}

# Told apart by their operands, not by their name.
_BY_OPERANDS = (
    "alu_shifted",  # an operand is shifted by a constant
    "compare_shifted",
    "float_move_double",  # two words at once
    "float_load_double",
    "float_store_double",
)

CLASSES = frozenset((*_MNEMONICS, *_BY_OPERANDS))
"""Every class of instructions; a core has some of them."""

_CLASS_OF = {name: kind for kind, names in _MNEMONICS.items() for name in names.split()} | {
    f"{name}s": kind
    for kind, names in (("alu", _DATA_PROCESSING), ("shift", _MNEMONICS["shift"].split()), ("multiply", ["mul"]))
    for name in names
}
_DOUBLES = {"float_move", "float_load", "float_store"}
_TWO_RESULTS = {"multiply_long", "multiply_add_long", "load_double", "float_move_double"}
_COMPARES = {"cmp", "cmn", "tst", "teq"}
_ACCUMULATORS = {"multiply_add": -1, "multiply_add_dsp": -1, "float_multiply_add": 0}  # position among the registers


@dataclass(frozen=True)
class Instruction:
    """One instruction. Registers are numbers of no meaning but that equal ones are the same register.

    kind : one of ``CLASSES``.
    registers : of its list, for an instruction that moves several; a double-precision one counts twice.
    reads, writes : without the program counter and the flags.
    address : registers that form an address.
    accumulator : registers that are added to.
    base : the address register that it changes (write-back).
    jumps : it writes the program counter, whatever its class.
    conditional : a branch that may fall through by itself; an IT block may make any instruction conditional.
    offset_register : the address has an index in a register.
    offsets : vector registers that form an address.
    scalars : general registers that an instruction of Helium computes with.
    """

    text: str
    kind: str
    size_bytes: int
    registers: int
    reads: frozenset[int]
    writes: frozenset[int]
    address: frozenset[int]
    accumulator: frozenset[int]
    base: frozenset[int]
    jumps: bool
    conditional: bool
    offset_register: bool
    offsets: frozenset[int] = frozenset()
    scalars: frozenset[int] = frozenset()


def decode(code: bytes, address: int, *, helium: bool = False) -> tuple[Instruction, ...]:
    """Decode a stretch of Thumb code.

    Parameters
    ----------
    address : only used to tell where an error is.
    helium : the core has what Armv8.1-M adds; where that gives a meaning to bits, they have no older one.

    Raises
    ------
    DeviceError : an instruction is unknown, or capstone is not installed.
    """
    instructions: list[Instruction] = []
    offset = 0
    while offset < len(code):
        size = 4 if code[offset + 1] >> 3 >= 0b11101 else 2
        instruction = _decode_one(code[offset : offset + size], helium)
        if isinstance(instruction, str):
            raise DeviceError(
                f"the timing model does not know the instruction at {address + offset:#010x}: {instruction}"
            )
        instructions.append(instruction)
        offset += size
    return tuple(instructions)


@lru_cache(maxsize=1 << 16)
def _decode_one(code: bytes, helium: bool) -> Instruction | str:
    """One instruction as if outside of an IT block, or a description of one that is unknown."""
    capstone, decoder = _capstone()
    halves = [int.from_bytes(code[i : i + 2], "little") for i in range(0, len(code), 2)]
    if helium and len(halves) == 2:
        added = decode_helium(halves[0] << 16 | halves[1])
        if added:
            return _added_instruction(added)
    halfwords = " ".join(f"{half:04x}" for half in halves)
    found = next(decoder.disasm(code, 0), None)
    if found is None or found.size != len(code) or _is_neon(halves[0]):
        return halfwords
    name = found.mnemonic.split(".")[0]
    text = f"{found.mnemonic} {found.op_str}".strip()
    kind = _CLASS_OF.get(name)
    if kind is None:
        return f"{halfwords} ({text})"
    return _instruction(found, name, kind, text, capstone.arm)


def _instruction(found: Any, name: str, kind: str, text: str, arm: ModuleType) -> Instruction:
    registers = [operand.reg for operand in found.operands if operand.type == arm.ARM_OP_REG]
    memory = [operand.mem for operand in found.operands if operand.type == arm.ARM_OP_MEM]
    if kind == "alu" and _is_shifted(found, arm):
        kind = "compare_shifted" if name in _COMPARES else "alu_shifted"
    if kind in _DOUBLES and (len(registers) > 2 or any(_is_double(register, arm) for register in registers)):
        kind += "_double"
    address = {register for m in memory for register in (m.base, m.index) if register}
    read, written = (set(group) for group in found.regs_access())
    base = {m.base for m in memory} & written - set(registers)
    count = 1
    if kind.endswith("_multiple"):
        on_stack = name in ("push", "pop", "vpush", "vpop")
        address = {arm.ARM_REG_SP} if on_stack else {registers[0]}
        listed = registers if on_stack else registers[1:]
        base = address if on_stack or found.writeback else set()
        read, written = (address, base.union(listed)) if "load" in kind else (address.union(listed), base)
        count = sum(2 if _is_double(register, arm) else 1 for register in listed)
    else:
        # capstone leaves out some sources (of SSAT, PKHBT, UXTAB): all operands behind the results are read.
        results = 2 if kind in _TWO_RESULTS else 1
        read |= {register for i, register in enumerate(registers) if i >= results or register not in written}
    accumulator = registers[:2] if kind == "multiply_add_long" else []
    if kind in _ACCUMULATORS:
        accumulator = [registers[_ACCUMULATORS[kind]]]
    outside = {arm.ARM_REG_PC, arm.ARM_REG_CPSR, arm.ARM_REG_ITSTATE, arm.ARM_REG_FPSCR, arm.ARM_REG_FPSCR_NZCV}
    return Instruction(
        text=text,
        kind=kind,
        size_bytes=found.size,
        registers=count,
        reads=frozenset(read.union(accumulator) - outside),
        writes=frozenset(written - outside),
        address=frozenset(address - outside),
        accumulator=frozenset(accumulator),
        base=frozenset(base - outside),
        jumps=arm.ARM_REG_PC in written and kind in ("alu", "alu_shifted", "load", "load_multiple"),
        conditional=kind == "branch" and name != "b",
        offset_register=any(m.index for m in memory),
    )


def _added_instruction(added: Decoded) -> Instruction:
    numbers = _numbers()
    roles = {role: frozenset(numbers[name] for name in names) for role, names in added.roles.items()}
    return Instruction(
        text=f"{added.name} {', '.join(added.registers)}".strip(),
        kind=added.kind,
        size_bytes=4,
        registers=1,
        jumps=False,
        conditional=False,
        offset_register=False,
        **roles,
    )


@cache
def _numbers() -> dict[str, int]:
    """Name of a register -> its number in capstone, which has none for the predicates."""
    arm = _capstone()[0].arm
    names = (*GENERAL, *VECTOR)
    return {name: getattr(arm, f"ARM_REG_{name.upper()}") for name in names} | {PREDICATE: -1}


def _is_neon(half: int) -> bool:
    """Whether an instruction that begins like this is one of Neon, which capstone knows and no Cortex-M has."""
    return half >> 8 in (0xEF, 0xFF) or half & 0xFF10 == 0xF900


def _is_double(register: int, arm: ModuleType) -> bool:
    return bool(arm.ARM_REG_D0 <= register <= arm.ARM_REG_D31)


def _is_shifted(found: Any, arm: ModuleType) -> bool:
    registers = (operand for operand in found.operands if operand.type == arm.ARM_OP_REG)
    return any(register.shift.type != arm.ARM_SFT_INVALID and register.shift.value for register in registers)


@cache
def _capstone() -> tuple[ModuleType, Any]:
    try:
        import capstone
        import capstone.arm
    except ImportError as error:
        raise DeviceError(
            f"the timing model needs capstone, which is not installed ({error}): pip install tvm_tinyml[sim]"
        ) from error
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
    decoder.detail = True
    return capstone, decoder
