"""Find instructions that Unicorn's Cortex-M3 executes and a Cortex-M3 does not have.

Its decoder asks for "Armv6 or later" where it should ask for the DSP extension. It refuses the rest of the extension
(SXTB16, SMLABB, SMMLA, QADD, PKHBT ...) by itself.

Source: Armv7-M Architecture Reference Manual, A5.3 (encodings), A1.2 (DSP extension); Unicorn 2.1.4 by experiment.
"""

from __future__ import annotations

from tvm_tinyml.device.engine import instruction_offsets

# (mask, value) of the first halfword, (mask, value) of the second one.
_DSP_ONLY = (
    (0xFFF0, 0xFB20, 0x00E0, 0x0000),  # SMLAD, SMUAD
    (0xFFF0, 0xFB30, 0x00E0, 0x0000),  # SMLAWB, SMLAWT, SMULWB, SMULWT
    (0xFFF0, 0xFB40, 0x00E0, 0x0000),  # SMLSD, SMUSD
    (0xFFF0, 0xFB70, 0x00F0, 0x0000),  # USAD8, USADA8
    (0xFFF0, 0xFBC0, 0x00E0, 0x00C0),  # SMLALD
    (0xFFF0, 0xFBD0, 0x00E0, 0x00C0),  # SMLSLD
    (0xFFF0, 0xF320, 0xF0C0, 0x0000),  # SSAT16
    (0xFFF0, 0xF3A0, 0xF0C0, 0x0000),  # USAT16
)
_EXTEND_FIRST = (0xFF80, 0xFA00)  # SXTAH, UXTAH, SXTAB, UXTAB; Rn = 15 makes them SXTH, UXTH, SXTB, UXTB
_EXTEND_SECOND = (0xF080, 0xF080)


def find_dsp_instruction(code: bytes) -> int | None:
    """Offset in bytes of the first instruction of the DSP extension in a stretch of Thumb code, or None."""
    for offset in instruction_offsets(code):
        first = int.from_bytes(code[offset : offset + 2], "little")
        second = int.from_bytes(code[offset + 2 : offset + 4], "little")
        if any(first & m1 == v1 and second & m2 == v2 for m1, v1, m2, v2 in _DSP_ONLY):
            return offset
        extends = first & _EXTEND_FIRST[0] == _EXTEND_FIRST[1] and second & _EXTEND_SECOND[0] == _EXTEND_SECOND[1]
        if extends and first & 15 != 15:
            return offset
    return None
