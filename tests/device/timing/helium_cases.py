"""What Armv8.1-M adds, as text, with the class and the role of each register: what the decoder must say.

A line is an instruction. Choices stand in parentheses, constants as ``lowest..highest/step``, registers as a bank and a
role:

- banks ``Q`` vector, ``R`` general, ``L`` r0 to r7, ``E`` even, ``O`` odd;
- roles ``d`` written, ``u`` changed, ``a`` added to, ``r`` read, ``b`` base, ``w`` base that is written back, ``o``
  offsets, ``x`` offsets that are written back; a figure tells two of them apart. ``Q2d`` and ``Q4r`` are that many
  vectors in a row.

``<vpr`` and ``>lr`` are registers that it reads and writes without saying so. ``!=``: its vector registers must differ.
"""

from __future__ import annotations

CASES = {
    "vector_load": """
        vldrb.u8 Qd, [Rb, #-127..127]
        vldrb.u8 Qd, [Rw, #-127..127]!
        vldrb.u8 Qd, [Rw], #-127..127
        vldrb.(s16|s32|u16|u32) Qd, [Lb, #-127..127]
        vldrb.(s16|s32|u16|u32) Qd, [Lw, #-127..127]!
        vldrb.(s16|s32|u16|u32) Qd, [Lw], #-127..127
        vldrh.u16 Qd, [Rb, #-254..254/2]
        vldrh.u16 Qd, [Rw, #-254..254/2]!
        vldrh.u16 Qd, [Rw], #-254..254/2
        vldrh.(s32|u32) Qd, [Lb, #-254..254/2]
        vldrh.(s32|u32) Qd, [Lw, #-254..254/2]!
        vldrh.(s32|u32) Qd, [Lw], #-254..254/2
        vldrw.u32 Qd, [Rb, #-508..508/4]
        vldrw.u32 Qd, [Rw, #-508..508/4]!
        vldrw.u32 Qd, [Rw], #-508..508/4
    """,
    "vector_gather_8": """
        vldrb.u8 Qd, [Rb, Qo] !=
    """,
    "vector_gather_16": """
        vldrb.(s16|u16) Qd, [Rb, Qo] !=
        vldrh.u16 Qd, [Rb, Qo] !=
        vldrh.u16 Qd, [Rb, Qo, uxtw #1] !=
    """,
    "vector_gather_32": """
        vldrb.(s32|u32) Qd, [Rb, Qo] !=
        vldrh.(s32|u32) Qd, [Rb, Qo] !=
        vldrh.(s32|u32) Qd, [Rb, Qo, uxtw #1] !=
        vldrw.u32 Qd, [Rb, Qo] !=
        vldrw.u32 Qd, [Rb, Qo, uxtw #2] !=
        vldrd.u64 Qd, [Rb, Qo] !=
        vldrd.u64 Qd, [Rb, Qo, uxtw #3] !=
        vldrw.u32 Qd, [Qo, #-508..508/4] !=
        vldrw.u32 Qd, [Qx, #-508..508/4]! !=
        vldrd.u64 Qd, [Qo, #-1016..1016/8] !=
        vldrd.u64 Qd, [Qx, #-1016..1016/8]! !=
    """,
    "vector_load_interleaved": """
        vld2(0|1).(8|16|32) {Q2d}, [Rb]
        vld2(0|1).(8|16|32) {Q2d}, [Rw]!
        vld4(0|1|2|3).(8|16|32) {Q4d}, [Rb]
        vld4(0|1|2|3).(8|16|32) {Q4d}, [Rw]!
    """,
    "vector_store": """
        vstrb.8 Qr, [Rb, #-127..127]
        vstrb.8 Qr, [Rw, #-127..127]!
        vstrb.8 Qr, [Rw], #-127..127
        vstrb.(16|32) Qr, [Lb, #-127..127]
        vstrb.(16|32) Qr, [Lw, #-127..127]!
        vstrb.(16|32) Qr, [Lw], #-127..127
        vstrh.16 Qr, [Rb, #-254..254/2]
        vstrh.16 Qr, [Rw, #-254..254/2]!
        vstrh.16 Qr, [Rw], #-254..254/2
        vstrh.32 Qr, [Lb, #-254..254/2]
        vstrh.32 Qr, [Lw, #-254..254/2]!
        vstrh.32 Qr, [Lw], #-254..254/2
        vstrw.32 Qr, [Rb, #-508..508/4]
        vstrw.32 Qr, [Rw, #-508..508/4]!
        vstrw.32 Qr, [Rw], #-508..508/4
    """,
    "vector_scatter_8": """
        vstrb.8 Qr, [Rb, Qo]
    """,
    "vector_scatter_16": """
        vstrb.16 Qr, [Rb, Qo]
        vstrh.16 Qr, [Rb, Qo]
        vstrh.16 Qr, [Rb, Qo, uxtw #1]
    """,
    "vector_scatter_32": """
        vstrb.32 Qr, [Rb, Qo]
        vstrh.32 Qr, [Rb, Qo]
        vstrh.32 Qr, [Rb, Qo, uxtw #1]
        vstrw.32 Qr, [Rb, Qo]
        vstrw.32 Qr, [Rb, Qo, uxtw #2]
        vstrd.64 Qr, [Rb, Qo]
        vstrd.64 Qr, [Rb, Qo, uxtw #3]
        vstrw.32 Qr, [Qo, #-508..508/4]
        vstrw.32 Qr, [Qx, #-508..508/4]!
        vstrd.64 Qr, [Qo, #-1016..1016/8]
        vstrd.64 Qr, [Qx, #-1016..1016/8]!
    """,
    "vector_store_interleaved": """
        vst2(0|1).(8|16|32) {Q2r}, [Rb]
        vst2(0|1).(8|16|32) {Q2r}, [Rw]!
        vst4(0|1|2|3).(8|16|32) {Q4r}, [Rb]
        vst4(0|1|2|3).(8|16|32) {Q4r}, [Rw]!
    """,
    "vector_add": """
        v(add|sub).i(8|16|32) Qd, Qr, Qr1
        v(qadd|qsub|hadd|hsub|rhadd|abd|max|min).(s|u)(8|16|32) Qd, Qr, Qr1
        v(max|min)a.s(8|16|32) Qu, Qr
        v(abs|neg|qabs|qneg).s(8|16|32) Qd, Qr
        vcadd.i(8|16|32) Qd, Qr, Qr1, #(90|270) !=
        vhcadd.s(8|16|32) Qd, Qr, Qr1, #(90|270) !=
        v(add|sub).i(8|16|32) Qd, Qr, Rr
        v(qadd|qsub|hadd|hsub).(s|u)(8|16|32) Qd, Qr, Rr
    """,
    "vector_carry": """
        v(adc|adci|sbc|sbci).i32 Qd, Qr, Qr1
    """,
    "vector_logic": """
        (vand|vbic|vorr|vorn|veor) Qd, Qr, Qr1
        vmvn Qd, Qr
        (vorr|vbic).i(16|32) Qu, #(0x0045|0x4500)
        (vorr|vbic).i32 Qu, #(0x450000|0x45000000)
        vmvn.i(16|32) Qd, #(0x0045|0x4500)
        vmvn.i32 Qd, #(0x45ff|0x45ffff)
        vrev64.(8|16|32) Qd, Qr !=
        vrev32.(8|16) Qd, Qr
        vrev16.8 Qd, Qr
        vcls.s(8|16|32) Qd, Qr
        vclz.i(8|16|32) Qd, Qr
        vmov Qd, Qr
        vpsel Qd, Qr, Qr1 <vpr
    """,
    "vector_immediate": """
        vmov.i8 Qd, #1..255
        vmov.i(16|32) Qd, #(0x0045|0x4500)
        vmov.i32 Qd, #(0x450000|0x45ff|0x45ffff)
        vmov.i64 Qd, #0xff00ff00ff0000ff
        vmov.f32 Qd, #(1.0|-0.5)
    """,
    "vector_duplicate": """
        vdup.(8|16|32) Qd, Rr
    """,
    "vector_shift": """
        vshl.i8 Qd, Qr, #0..7
        vshl.i16 Qd, Qr, #0..15
        vshl.i32 Qd, Qr, #0..31
        vshr.(s|u)8 Qd, Qr, #1..8
        vshr.(s|u)16 Qd, Qr, #1..16
        vshr.(s|u)32 Qd, Qr, #1..32
        vsli.8 Qu, Qr, #0..7
        vsli.16 Qu, Qr, #0..15
        vsli.32 Qu, Qr, #0..31
        vsri.8 Qu, Qr, #1..8
        vsri.16 Qu, Qr, #1..16
        vsri.32 Qu, Qr, #1..32
        vshl.(s|u)(8|16|32) Qd, Qr, Qr1
        vshl.(s|u)(8|16|32) Qu, Rr
        vshll(b|t).(s|u)8 Qd, Qr, #1..8
        vshll(b|t).(s|u)16 Qd, Qr, #1..16
        vmovl(b|t).(s|u)(8|16) Qd, Qr
        vbrsr.(8|16|32) Qd, Qr, Rr
    """,
    "vector_round": """
        vrshr.(s|u)8 Qd, Qr, #1..8
        vrshr.(s|u)16 Qd, Qr, #1..16
        vrshr.(s|u)32 Qd, Qr, #1..32
        vqshl.(s|u)8 Qd, Qr, #0..7
        vqshl.(s|u)16 Qd, Qr, #0..15
        vqshl.(s|u)32 Qd, Qr, #0..31
        vqshlu.s8 Qd, Qr, #0..7
        vqshlu.s16 Qd, Qr, #0..15
        vqshlu.s32 Qd, Qr, #0..31
        v(rshl|qshl|qrshl).(s|u)(8|16|32) Qd, Qr, Qr1
        v(rshl|qshl|qrshl).(s|u)(8|16|32) Qu, Rr
    """,
    "vector_narrow": """
        vmovn(b|t).i(16|32) Qu, Qr
        vshrn(b|t).i16 Qu, Qr, #1..8
        vshrn(b|t).i32 Qu, Qr, #1..16
    """,
    "vector_round_narrow": """
        vqmovn(b|t).(s|u)(16|32) Qu, Qr
        vqmovun(b|t).s(16|32) Qu, Qr
        vrshrn(b|t).i16 Qu, Qr, #1..8
        vrshrn(b|t).i32 Qu, Qr, #1..16
        vq(r|)shrn(b|t).(s|u)16 Qu, Qr, #1..8
        vq(r|)shrn(b|t).(s|u)32 Qu, Qr, #1..16
        vq(r|)shrun(b|t).s16 Qu, Qr, #1..8
        vq(r|)shrun(b|t).s32 Qu, Qr, #1..16
    """,
    "vector_two_results": """
        v(i|d)dup.u(8|16|32) Qd, Eu, #(1|2|4|8)
        v(i|d)wdup.u(8|16|32) Qd, Eu, Or, #(1|2|4|8)
        vshlc Qu, Ru, #1..32
    """,
    "vector_multiply": """
        vmul.i(8|16|32) Qd, Qr, Qr1
        v(mulh|rmulh).(s|u)(8|16|32) Qd, Qr, Qr1
        v(qdmulh|qrdmulh).s(8|16|32) Qd, Qr, Qr1
        vmull(b|t).(s|u)(8|16|32) Qd, Qr, Qr1 !=
        vqdmull(b|t).s(16|32) Qd, Qr, Qr1 !=
        vmul.i(8|16|32) Qd, Qr, Rr
        v(qdmulh|qrdmulh).s(8|16|32) Qd, Qr, Rr
        vqdmull(b|t).s(16|32) Qd, Qr, Rr !=
    """,
    "vector_multiply_polynomial": """
        vmull(b|t).p(8|16) Qd, Qr, Qr1
    """,
    "vector_multiply_add": """
        v(mla|mlas).i(8|16|32) Qu, Qr, Rr
        v(qdmlah|qdmlash|qrdmlah|qrdmlash).s(8|16|32) Qu, Qr, Rr
        v(qdmladh|qrdmladh|qdmlsdh|qrdmlsdh)(x|).s(8|16|32) Qu, Qr, Qr1 !=
    """,
    "vector_dot": """
        vmladav.(s|u)(8|16|32) Ed, Qr, Qr1
        vmladava.(s|u)(8|16|32) Ea, Qr, Qr1
        (vmladavx|vmlsdav|vmlsdavx).s(8|16|32) Ed, Qr, Qr1
        (vmladavax|vmlsdava|vmlsdavax).s(8|16|32) Ea, Qr, Qr1
        vmlaldav.(s|u)(16|32) Ed, Od, Qr, Qr1
        vmlaldava.(s|u)(16|32) Ea, Oa, Qr, Qr1
        (vmlaldavx|vmlsldav|vmlsldavx).s(16|32) Ed, Od, Qr, Qr1
        (vmlaldavax|vmlsldava|vmlsldavax).s(16|32) Ea, Oa, Qr, Qr1
        vrmlaldavh.(s|u)32 Ed, Od, Qr, Qr1
        vrmlaldavha.(s|u)32 Ea, Oa, Qr, Qr1
        (vrmlaldavhx|vrmlsldavh|vrmlsldavhx).s32 Ed, Od, Qr, Qr1
        (vrmlaldavhax|vrmlsldavha|vrmlsldavhax).s32 Ea, Oa, Qr, Qr1
    """,
    "vector_sum": """
        vaddv.(s|u)(8|16|32) Ed, Qr
        vaddva.(s|u)(8|16|32) Ea, Qr
        vaddlv.(s|u)32 Ed, Od, Qr
        vaddlva.(s|u)32 Ea, Oa, Qr
    """,
    "vector_distance": """
        vabav.(s|u)(8|16|32) Ra, Qr, Qr1
    """,
    "vector_largest_8": """
        (vmaxv|vminv).(s|u)8 Ra, Qr
        (vmaxav|vminav).s8 Ra, Qr
    """,
    "vector_largest_16": """
        (vmaxv|vminv).(s|u)16 Ra, Qr
        (vmaxav|vminav).s16 Ra, Qr
    """,
    "vector_largest_32": """
        (vmaxv|vminv).(s|u)32 Ra, Qr
        (vmaxav|vminav).s32 Ra, Qr
    """,
    "vector_to_general": """
        vmov.(s|u)8 Rd, Qr[0..15]
        vmov.(s|u)16 Rd, Qr[0..7]
        vmov.32 Rd, Qr[0..3]
        vmov Rd, Rd1, Qr[2], Qr[0]
        vmov Rd, Rd1, Qr[3], Qr[1]
    """,
    "vector_from_general": """
        vmov.8 Qu[0..15], Rr
        vmov.16 Qu[0..7], Rr
        vmov.32 Qu[0..3], Rr
        vmov Qu[2], Qu[0], Rr, Rr1
        vmov Qu[3], Qu[1], Rr, Rr1
    """,
    "vector_compare": """
        vcmp.i(8|16|32) (eq|ne), Qr, Qr1 >vpr
        vcmp.u(8|16|32) (cs|hi), Qr, Qr1 >vpr
        vcmp.s(8|16|32) (ge|lt|gt|le), Qr, Qr1 >vpr
        vcmp.f(16|32) (eq|ne|ge|lt|gt|le), Qr, Qr1 >vpr
        vcmp.i(8|16|32) (eq|ne), Qr, Rr >vpr
        vcmp.u(8|16|32) (cs|hi), Qr, Rr >vpr
        vcmp.s(8|16|32) (ge|lt|gt|le), Qr, Rr >vpr
        vcmp.f(16|32) (eq|ne|ge|lt|gt|le), Qr, Rr >vpr
        vcmp.i8 eq, Qr, zr >vpr
        v(pt|ptt|pttt|ptttt).i(8|16|32) (eq|ne), Qr, Qr1 >vpr
        v(pt|ptt|pttt|ptttt).u(8|16|32) (cs|hi), Qr, Qr1 >vpr
        v(pt|ptt|pttt|ptttt).s(8|16|32) (ge|le), Qr, Qr1 >vpr
        v(pt|ptt|pttt|ptttt).f(16|32) (eq|lt), Qr, Qr1 >vpr
        v(pt|ptt|pttt|ptttt).i(8|16|32) (eq|ne), Qr, Rr >vpr
        v(pt|ptt|pttt|ptttt).u(8|16|32) (cs|hi), Qr, Rr >vpr
        v(pt|ptt|pttt|ptttt).s(8|16|32) (lt|gt), Qr, Rr >vpr
        v(pt|ptt|pttt|ptttt).f(16|32) (ne|le), Qr, Rr >vpr
        vp(te|tte|tet|tee|ttte|teet|tett|teee).s32 gt, Qr, Rr >vpr
    """,
    "vector_predicate": """
        v(pst|pstt|pste|psttt|pstte|pstet|pstee|pstttt|psttee|pstete|psteee) <vpr >vpr
        vpnot <vpr >vpr
        vctp.(8|16|32|64) Rr >vpr
    """,
    "predicate_load": """
        vldr (p0|vpr), [Rb, #-508..508/4] >vpr
        vldr (p0|vpr), [Rw, #-508..508/4]! >vpr
        vldr (p0|vpr), [Rw], #-508..508/4 >vpr
    """,
    "predicate_store": """
        vstr (p0|vpr), [Rb, #-508..508/4] <vpr
        vstr (p0|vpr), [Rw, #-508..508/4]! <vpr
        vstr (p0|vpr), [Rw], #-508..508/4 <vpr
    """,
    "float_system": """
        vmsr (p0|vpr), Rr >vpr
        vmrs Rd, (p0|vpr) <vpr
    """,
    "vector_float_add": """
        v(add|sub|abd).f(16|32) Qd, Qr, Qr1
        vcadd.f(16|32) Qd, Qr, Qr1, #(90|270) !=
    """,
    "vector_float_add_general": """
        v(add|sub).f(16|32) Qd, Qr, Rr
    """,
    "vector_float_compare": """
        v(abs|neg).f(16|32) Qd, Qr
        v(maxnm|minnm).f(16|32) Qd, Qr, Qr1
        v(maxnma|minnma).f(16|32) Qu, Qr
    """,
    "vector_float_largest": """
        v(maxnmv|minnmv|maxnmav|minnmav).f(16|32) Ra, Qr
    """,
    "vector_float_multiply": """
        vmul.f(16|32) Qd, Qr, Qr1
        vmul.f(16|32) Qd, Qr, Rr
        vcmul.f(16|32) Qd, Qr, Qr1, #(0|90|180|270) !=
    """,
    "vector_float_multiply_add": """
        v(fma|fms).f(16|32) Qa, Qr, Qr1
        v(fma|fmas).f(16|32) Qa, Qr, Rr
        vcmla.f(16|32) Qa, Qr, Qr1, #(0|90|180|270) !=
    """,
    "vector_convert": """
        vcvt.f16.(s|u)16 Qd, Qr
        vcvt.f32.(s|u)32 Qd, Qr
        vcvt(|a|n|p|m).(s|u)16.f16 Qd, Qr
        vcvt(|a|n|p|m).(s|u)32.f32 Qd, Qr
        vcvt.f16.(s|u)16 Qd, Qr, #1..16
        vcvt.(s|u)16.f16 Qd, Qr, #1..16
        vcvt.f32.(s|u)32 Qd, Qr, #1..32
        vcvt.(s|u)32.f32 Qd, Qr, #1..32
        vcvt(b|t).f32.f16 Qd, Qr
        vrint(n|x|a|z|m|p).f(16|32) Qd, Qr
    """,
    "vector_convert_narrow": """
        vcvt(b|t).f16.f32 Qu, Qr
    """,
    "loop_start": """
        dls lr, Rr >lr
        dlstp.(8|16|32|64) lr, Rr >lr
        wls lr, Rr, #0..4094/2 >lr
        wlstp.(8|16|32|64) lr, Rr, #0..4094/2 >lr
        lctp
    """,
    "loop_end": """
        le #-4094..0/2
        le lr, #-4094..0/2 <lr >lr
        letp lr, #-4094..0/2 <lr >lr
    """,
    "select": """
        (csel|csinc|csinv|csneg) Rd, Rr, Rr1, (eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)
        (csel|csinc|csinv|csneg) Rd, Rr, zr, (eq|le)
        (csel|csinc|csinv|csneg) Rd, zr, Rr, (eq|le)
    """,
    "shift_long": """
        (asrl|lsll|lsrl) Eu, Ou, #1..32
        (asrl|lsll) Eu, Ou, Rr
        (sqshll|srshrl|uqshll|urshrl) Eu, Ou, #1..32
        (sqrshrl|uqrshll) Eu, Ou, #(48|64), Rr
        (sqrshr|uqrshl) Ru, Rr
        (sqshl|srshr|uqshl|urshr) Ru, #1..32
    """,
    "clear": """
        clrm {r0, r3, r12, apsr}
        clrm {r1-r5, lr}
        vscclrm {s0-s7, vpr} >vpr
        vscclrm {d4-d8, vpr} >vpr
    """,
}
