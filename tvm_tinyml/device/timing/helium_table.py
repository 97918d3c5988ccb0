"""What Armv8.1-M adds, as bits (Arm DDI 0553): all of Helium, low-overhead loops, selects, long shifts.

Groups of lines by class. A line is a name, 32 bits, and notes. What is no digit in the bits:

- ``.`` any value: a constant, a condition, a lane.
- ``+`` any value, but not all of them zero.
- small letters, a register:

  ========  ============================================================================================
  vector    3 bits. ``d`` written, ``e`` changed, ``a`` added to, ``n`` ``m`` read; ``o`` offsets, ``w``
            the same and written back; from that one on, ``p`` 2 and ``k`` 4 written, ``q`` 2 and ``r`` 4
            read
  general   ``h`` ``l`` written, ``u`` changed, ``j`` added to, ``f`` ``g`` read; ``b`` base of an
            address, ``i`` the same and written back
  even      twice the number in 3 bits: ``s`` written, ``v`` changed, ``x`` added to
  odd       the one behind: ``t`` written, ``z`` changed, ``y`` added to, ``c`` read
  ========  ============================================================================================

- capitals, a part of the name, which stands in braces there (``OPTIONS``).

Notes: ``g!=1101`` a field that has no such value, since that is another instruction; ``<vpr`` ``>lr`` a register
that it reads or writes by itself. An instruction inside of a VPT block has the same bits as outside. ``vpt`` and
``vpst`` stand for all their endings (t and e); ``vmladav`` for ``vmlav``, and so on; ``vorr`` also for ``vmov``.
"""

from __future__ import annotations

OPTIONS = {
    "U": {"0": "s", "1": "u"},
    "Z": {"00": "8", "01": "16", "10": "32"},
    "S": {"00": "8", "01": "16", "10": "32", "11": "64"},
    "Y": {"0": "16", "1": "32"},
    "B": {"0": "8", "1": "16"},
    "F": {"0": "32", "1": "16"},
    "P": {"01": "16", "10": "32"},
    "I": {"001...": "8", "01....": "16", "1.....": "32"},  # with a constant shift of that size
    "K": {"01...": "16", "1....": "32"},  # the same, narrowing
    "V": {"01000": "8", "10000": "16"},  # widening, without a shift
    "W": {"011..": "8", "0101.": "8", "01001": "8", "11...": "16", "101..": "16", "1001.": "16", "10001": "16"},
    "T": {"0": "b", "1": "t"},
    "X": {"0": "", "1": "x"},
    "R": {"0": "", "1": "r"},
    "C": {"0": "", "1": "i"},
    "D": {"0": "0", "1": "1"},
    "J": {"00": "0", "01": "1", "10": "2", "11": "3"},
    "O": {"00": "a", "01": "n", "10": "p", "11": "m"},
    "L": {"000": "n", "001": "x", "010": "a", "011": "z", "101": "m", "111": "p"},
}

TABLE = {
    "vector_load": """
        vldrb.u8                1110 1101 .001 bbbb ddd1 1110 0... ....
        vldrb.u8                1110 110. .011 iiii ddd1 1110 0... ....
        vldrb.{U}16             111U 1101 .001 0bbb ddd0 1110 1... ....
        vldrb.{U}16             111U 110. .011 0iii ddd0 1110 1... ....
        vldrb.{U}32             111U 1101 .001 0bbb ddd0 1111 0... ....
        vldrb.{U}32             111U 110. .011 0iii ddd0 1111 0... ....
        vldrh.u16               1110 1101 .001 bbbb ddd1 1110 1... ....
        vldrh.u16               1110 110. .011 iiii ddd1 1110 1... ....
        vldrh.{U}32             111U 1101 .001 1bbb ddd0 1111 0... ....
        vldrh.{U}32             111U 110. .011 1iii ddd0 1111 0... ....
        vldrw.u32               1110 1101 .001 bbbb ddd1 1111 0... ....
        vldrw.u32               1110 110. .011 iiii ddd1 1111 0... ....
    """,
    "vector_gather_8": """
        vldrb.u8                1111 1100 1001 bbbb ddd0 1110 0000 ooo0
    """,
    "vector_gather_16": """
        vldrb.{U}16             111U 1100 1001 bbbb ddd0 1110 1000 ooo0
        vldrh.u16               1111 1100 1001 bbbb ddd0 1110 1001 ooo.
    """,
    "vector_gather_32": """
        vldrb.{U}32             111U 1100 1001 bbbb ddd0 1111 0000 ooo0
        vldrh.{U}32             111U 1100 1001 bbbb ddd0 1111 0001 ooo.
        vldrw.u32               1111 1100 1001 bbbb ddd0 1111 0100 ooo.
        vldrd.u64               1111 1100 1001 bbbb ddd0 1111 1101 ooo.
        vldrw.u32               1111 1101 .001 ooo0 ddd1 1110 0... ....
        vldrw.u32               1111 1101 .011 www0 ddd1 1110 0... ....
        vldrd.u64               1111 1101 .001 ooo0 ddd1 1111 0... ....
        vldrd.u64               1111 1101 .011 www0 ddd1 1111 0... ....
    """,
    "vector_load_interleaved": """
        vld2{D}.{Z}             1111 1100 1001 bbbb ppp1 111Z Z0D0 0000 p!=111
        vld2{D}.{Z}             1111 1100 1011 iiii ppp1 111Z Z0D0 0000 p!=111
        vld4{J}.{Z}             1111 1100 1001 bbbb kkk1 111Z ZJJ0 0001 k!=101 k!=11.
        vld4{J}.{Z}             1111 1100 1011 iiii kkk1 111Z ZJJ0 0001 k!=101 k!=11.
    """,
    "vector_store": """
        vstrb.8                 1110 1101 .000 bbbb mmm1 1110 0... ....
        vstrb.8                 1110 110. .010 iiii mmm1 1110 0... ....
        vstrb.16                1110 1101 .000 0bbb mmm0 1110 1... ....
        vstrb.16                1110 110. .010 0iii mmm0 1110 1... ....
        vstrb.32                1110 1101 .000 0bbb mmm0 1111 0... ....
        vstrb.32                1110 110. .010 0iii mmm0 1111 0... ....
        vstrh.16                1110 1101 .000 bbbb mmm1 1110 1... ....
        vstrh.16                1110 110. .010 iiii mmm1 1110 1... ....
        vstrh.32                1110 1101 .000 1bbb mmm0 1111 0... ....
        vstrh.32                1110 110. .010 1iii mmm0 1111 0... ....
        vstrw.32                1110 1101 .000 bbbb mmm1 1111 0... ....
        vstrw.32                1110 110. .010 iiii mmm1 1111 0... ....
    """,
    "vector_scatter_8": """
        vstrb.8                 1110 1100 1000 bbbb mmm0 1110 0000 ooo0
    """,
    "vector_scatter_16": """
        vstrb.16                1110 1100 1000 bbbb mmm0 1110 1000 ooo0
        vstrh.16                1110 1100 1000 bbbb mmm0 1110 1001 ooo.
    """,
    "vector_scatter_32": """
        vstrb.32                1110 1100 1000 bbbb mmm0 1111 0000 ooo0
        vstrh.32                1110 1100 1000 bbbb mmm0 1111 0001 ooo.
        vstrw.32                1110 1100 1000 bbbb mmm0 1111 0100 ooo.
        vstrd.64                1110 1100 1000 bbbb mmm0 1111 1101 ooo.
        vstrw.32                1111 1101 .000 ooo0 mmm1 1110 0... ....
        vstrw.32                1111 1101 .010 www0 mmm1 1110 0... ....
        vstrd.64                1111 1101 .000 ooo0 mmm1 1111 0... ....
        vstrd.64                1111 1101 .010 www0 mmm1 1111 0... ....
    """,
    "vector_store_interleaved": """
        vst2{D}.{Z}             1111 1100 1000 bbbb qqq1 111Z Z0D0 0000 q!=111
        vst2{D}.{Z}             1111 1100 1010 iiii qqq1 111Z Z0D0 0000 q!=111
        vst4{J}.{Z}             1111 1100 1000 bbbb rrr1 111Z ZJJ0 0001 r!=101 r!=11.
        vst4{J}.{Z}             1111 1100 1010 iiii rrr1 111Z ZJJ0 0001 r!=101 r!=11.
    """,
    "vector_add": """
        vadd.i{Z}               1110 1111 00ZZ nnn0 ddd0 1000 0100 mmm0
        vsub.i{Z}               1111 1111 00ZZ nnn0 ddd0 1000 0100 mmm0
        vqadd.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0000 0101 mmm0
        vqsub.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0010 0101 mmm0
        vhadd.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0000 0100 mmm0
        vhsub.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0010 0100 mmm0
        vrhadd.{U}{Z}           111U 1111 00ZZ nnn0 ddd0 0001 0100 mmm0
        vabd.{U}{Z}             111U 1111 00ZZ nnn0 ddd0 0111 0100 mmm0
        vmax.{U}{Z}             111U 1111 00ZZ nnn0 ddd0 0110 0100 mmm0
        vmin.{U}{Z}             111U 1111 00ZZ nnn0 ddd0 0110 0101 mmm0
        vmaxa.s{Z}              1110 1110 0011 ZZ11 eee0 1110 1000 mmm1
        vmina.s{Z}              1110 1110 0011 ZZ11 eee1 1110 1000 mmm1
        vabs.s{Z}               1111 1111 1011 ZZ01 ddd0 0011 0100 mmm0
        vneg.s{Z}               1111 1111 1011 ZZ01 ddd0 0011 1100 mmm0
        vqabs.s{Z}              1111 1111 1011 ZZ00 ddd0 0111 0100 mmm0
        vqneg.s{Z}              1111 1111 1011 ZZ00 ddd0 0111 1100 mmm0
        vcadd.i{Z}              1111 1110 00ZZ nnn0 ddd. 1111 0000 mmm0
        vhcadd.s{Z}             1110 1110 00ZZ nnn0 ddd. 1111 0000 mmm0
        vadd.i{Z}               1110 1110 00ZZ nnn1 ddd0 1111 0100 gggg
        vsub.i{Z}               1110 1110 00ZZ nnn1 ddd1 1111 0100 gggg
        vqadd.{U}{Z}            111U 1110 00ZZ nnn0 ddd0 1111 0110 gggg
        vqsub.{U}{Z}            111U 1110 00ZZ nnn0 ddd1 1111 0110 gggg
        vhadd.{U}{Z}            111U 1110 00ZZ nnn0 ddd0 1111 0100 gggg
        vhsub.{U}{Z}            111U 1110 00ZZ nnn0 ddd1 1111 0100 gggg
    """,
    "vector_carry": """
        vadc{C}.i32             1110 1110 0011 nnn0 dddC 1111 0000 mmm0
        vsbc{C}.i32             1111 1110 0011 nnn0 dddC 1111 0000 mmm0
    """,
    "vector_logic": """
        vand                    1110 1111 0000 nnn0 ddd0 0001 0101 mmm0
        vbic                    1110 1111 0001 nnn0 ddd0 0001 0101 mmm0
        vorr                    1110 1111 0010 nnn0 ddd0 0001 0101 mmm0
        vorn                    1110 1111 0011 nnn0 ddd0 0001 0101 mmm0
        veor                    1111 1111 0000 nnn0 ddd0 0001 0101 mmm0
        vmvn                    1111 1111 1011 0000 ddd0 0101 1100 mmm0
        vorr.i32                111. 1111 1000 0... eee0 0..1 0101 ....
        vorr.i16                111. 1111 1000 0... eee0 10.1 0101 ....
        vbic.i32                111. 1111 1000 0... eee0 0..1 0111 ....
        vbic.i16                111. 1111 1000 0... eee0 10.1 0111 ....
        vmvn.i32                111. 1111 1000 0... ddd0 0..0 0111 ....
        vmvn.i16                111. 1111 1000 0... ddd0 10.0 0111 ....
        vmvn.i32                111. 1111 1000 0... ddd0 110. 0111 ....
        vrev64.{Z}              1111 1111 1011 ZZ00 ddd0 0000 0100 mmm0
        vrev32.{B}              1111 1111 1011 0B00 ddd0 0000 1100 mmm0
        vrev16.8                1111 1111 1011 0000 ddd0 0001 0100 mmm0
        vcls.s{Z}               1111 1111 1011 ZZ00 ddd0 0100 0100 mmm0
        vclz.i{Z}               1111 1111 1011 ZZ00 ddd0 0100 1100 mmm0
        vpsel                   1111 1110 0011 nnn1 ddd0 1111 0000 mmm1 <vpr
    """,
    "vector_immediate": """
        vmov.i32                111. 1111 1000 0... ddd0 0..0 0101 ....
        vmov.i16                111. 1111 1000 0... ddd0 10.0 0101 ....
        vmov.i32                111. 1111 1000 0... ddd0 110. 0101 ....
        vmov.i8                 111. 1111 1000 0... ddd0 1110 0101 ....
        vmov.f32                111. 1111 1000 0... ddd0 1111 0101 ....
        vmov.i64                111. 1111 1000 0... ddd0 1110 0111 ....
    """,
    "vector_duplicate": """
        vdup.8                  1110 1110 1110 ddd0 gggg 1011 0001 0000
        vdup.16                 1110 1110 1010 ddd0 gggg 1011 0011 0000
        vdup.32                 1110 1110 1010 ddd0 gggg 1011 0001 0000
    """,
    "vector_shift": """
        vshl.i{I}               1110 1111 10II IIII ddd0 0101 0101 mmm0
        vshr.{U}{I}             111U 1111 10II IIII ddd0 0000 0101 mmm0
        vsli.{I}                1111 1111 10II IIII eee0 0101 0101 mmm0
        vsri.{I}                1111 1111 10II IIII eee0 0100 0101 mmm0
        vshl.{U}{Z}             111U 1111 00ZZ nnn0 ddd0 0100 0100 mmm0
        vshl.{U}{Z}             111U 1110 0011 ZZ01 eee1 1110 0110 gggg
        vshll{T}.{U}{W}         111U 1110 101W WWWW dddT 1111 0100 mmm0
        vshll{T}.{U}{B}         111U 1110 0011 0B01 dddT 1110 0000 mmm1
        vmovl{T}.{U}{V}         111U 1110 101V VVVV dddT 1111 0100 mmm0
        vbrsr.{Z}               1111 1110 00ZZ nnn1 ddd1 1110 0110 gggg
    """,
    "vector_round": """
        vrshr.{U}{I}            111U 1111 10II IIII ddd0 0010 0101 mmm0
        vqshl.{U}{I}            111U 1111 10II IIII ddd0 0111 0101 mmm0
        vqshlu.s{I}             1111 1111 10II IIII ddd0 0110 0101 mmm0
        vrshl.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0101 0100 mmm0
        vqshl.{U}{Z}            111U 1111 00ZZ nnn0 ddd0 0100 0101 mmm0
        vqrshl.{U}{Z}           111U 1111 00ZZ nnn0 ddd0 0101 0101 mmm0
        vrshl.{U}{Z}            111U 1110 0011 ZZ11 eee1 1110 0110 gggg
        vqshl.{U}{Z}            111U 1110 0011 ZZ01 eee1 1110 1110 gggg
        vqrshl.{U}{Z}           111U 1110 0011 ZZ11 eee1 1110 1110 gggg
    """,
    "vector_narrow": """
        vmovn{T}.i{Y}           1111 1110 0011 0Y01 eeeT 1110 1000 mmm1
        vshrn{T}.i{K}           1110 1110 100K KKKK eeeT 1111 1100 mmm1
    """,
    "vector_round_narrow": """
        vqmovn{T}.{U}{Y}        111U 1110 0011 0Y11 eeeT 1110 0000 mmm1
        vqmovun{T}.s{Y}         1110 1110 0011 0Y01 eeeT 1110 1000 mmm1
        vrshrn{T}.i{K}          1111 1110 100K KKKK eeeT 1111 1100 mmm1
        vq{R}shrn{T}.{U}{K}     111U 1110 100K KKKK eeeT 1111 0100 mmmR
        vqshrun{T}.s{K}         1110 1110 100K KKKK eeeT 1111 1100 mmm0
        vqrshrun{T}.s{K}        1111 1110 100K KKKK eeeT 1111 1100 mmm0
    """,
    "vector_two_results": """
        vidup.u{Z}              1110 1110 00ZZ vvv1 ddd0 1111 .110 111.
        vddup.u{Z}              1110 1110 00ZZ vvv1 ddd1 1111 .110 111.
        viwdup.u{Z}             1110 1110 00ZZ vvv1 ddd0 1111 .110 ccc. c!=111
        vdwdup.u{Z}             1110 1110 00ZZ vvv1 ddd1 1111 .110 ccc. c!=111
        vshlc                   1110 1110 101. .... eee0 1111 1100 uuuu
    """,
    "vector_multiply": """
        vmul.i{Z}               1110 1111 00ZZ nnn0 ddd0 1001 0101 mmm0
        vmulh.{U}{Z}            111U 1110 00ZZ nnn1 ddd0 1110 0000 mmm1
        vrmulh.{U}{Z}           111U 1110 00ZZ nnn1 ddd1 1110 0000 mmm1
        vqdmulh.s{Z}            1110 1111 00ZZ nnn0 ddd0 1011 0100 mmm0
        vqrdmulh.s{Z}           1111 1111 00ZZ nnn0 ddd0 1011 0100 mmm0
        vmull{T}.{U}{Z}         111U 1110 00ZZ nnn1 dddT 1110 0000 mmm0
        vqdmull{T}.s{Y}         111Y 1110 0011 nnn0 dddT 1111 0000 mmm1
        vmul.i{Z}               1110 1110 00ZZ nnn1 ddd1 1110 0110 gggg
        vqdmulh.s{Z}            1110 1110 00ZZ nnn1 ddd0 1110 0110 gggg
        vqrdmulh.s{Z}           1111 1110 00ZZ nnn1 ddd0 1110 0110 gggg
        vqdmull{T}.s{Y}         111Y 1110 0011 nnn0 dddT 1111 0110 gggg
    """,
    "vector_multiply_polynomial": """
        vmull{T}.p{B}           111B 1110 0011 nnn1 dddT 1110 0000 mmm0
    """,
    "vector_multiply_add": """
        vmla.i{Z}               111. 1110 00ZZ nnn1 eee0 1110 0100 gggg
        vmlas.i{Z}              111. 1110 00ZZ nnn1 eee1 1110 0100 gggg
        vqdmlah.s{Z}            1110 1110 00ZZ nnn0 eee0 1110 0110 gggg
        vqdmlash.s{Z}           1110 1110 00ZZ nnn0 eee1 1110 0110 gggg
        vqrdmlah.s{Z}           1110 1110 00ZZ nnn0 eee0 1110 0100 gggg
        vqrdmlash.s{Z}          1110 1110 00ZZ nnn0 eee1 1110 0100 gggg
        vq{R}dmladh{X}.s{Z}     1110 1110 00ZZ nnn0 eeeX 1110 0000 mmmR
        vq{R}dmlsdh{X}.s{Z}     1111 1110 00ZZ nnn0 eeeX 1110 0000 mmmR
    """,
    "vector_dot": """
        vmladav{X}.s8           1110 1110 1111 nnn0 sssX 1111 0000 mmm0
        vmladav{X}.s{Y}         1110 1110 1111 nnnY sssX 1110 0000 mmm0
        vmladav.u8              1111 1110 1111 nnn0 sss0 1111 0000 mmm0
        vmladav.u{Y}            1111 1110 1111 nnnY sss0 1110 0000 mmm0
        vmladava{X}.s8          1110 1110 1111 nnn0 xxxX 1111 0010 mmm0
        vmladava{X}.s{Y}        1110 1110 1111 nnnY xxxX 1110 0010 mmm0
        vmladava.u8             1111 1110 1111 nnn0 xxx0 1111 0010 mmm0
        vmladava.u{Y}           1111 1110 1111 nnnY xxx0 1110 0010 mmm0
        vmlsdav{X}.s8           1111 1110 1111 nnn0 sssX 1110 0000 mmm1
        vmlsdav{X}.s{Y}         1110 1110 1111 nnnY sssX 1110 0000 mmm1
        vmlsdava{X}.s8          1111 1110 1111 nnn0 xxxX 1110 0010 mmm1
        vmlsdava{X}.s{Y}        1110 1110 1111 nnnY xxxX 1110 0010 mmm1
        vmlaldav{X}.s{Y}        1110 1110 1ttt nnnY sssX 1110 0000 mmm0 t!=11.
        vmlaldav.u{Y}           1111 1110 1ttt nnnY sss0 1110 0000 mmm0 t!=11.
        vmlaldava{X}.s{Y}       1110 1110 1yyy nnnY xxxX 1110 0010 mmm0 y!=11.
        vmlaldava.u{Y}          1111 1110 1yyy nnnY xxx0 1110 0010 mmm0 y!=11.
        vmlsldav{X}.s{Y}        1110 1110 1ttt nnnY sssX 1110 0000 mmm1 t!=11.
        vmlsldava{X}.s{Y}       1110 1110 1yyy nnnY xxxX 1110 0010 mmm1 y!=11.
        vrmlaldavh{X}.s32       1110 1110 1ttt nnn0 sssX 1111 0000 mmm0 t!=11.
        vrmlaldavh.u32          1111 1110 1ttt nnn0 sss0 1111 0000 mmm0 t!=11.
        vrmlaldavha{X}.s32      1110 1110 1yyy nnn0 xxxX 1111 0010 mmm0 y!=11.
        vrmlaldavha.u32         1111 1110 1yyy nnn0 xxx0 1111 0010 mmm0 y!=11.
        vrmlsldavh{X}.s32       1111 1110 1ttt nnn0 sssX 1110 0000 mmm1 t!=11.
        vrmlsldavha{X}.s32      1111 1110 1yyy nnn0 xxxX 1110 0010 mmm1 y!=11.
    """,
    "vector_sum": """
        vaddv.{U}{Z}            111U 1110 1111 ZZ01 sss0 1111 0000 mmm0
        vaddva.{U}{Z}           111U 1110 1111 ZZ01 xxx0 1111 0010 mmm0
        vaddlv.{U}32            111U 1110 1ttt 1001 sss0 1111 0000 mmm0 t!=11.
        vaddlva.{U}32           111U 1110 1yyy 1001 xxx0 1111 0010 mmm0 y!=11.
    """,
    "vector_distance": """
        vabav.{U}{Z}            111U 1110 10ZZ nnn0 jjjj 1111 0000 mmm1
    """,
    "vector_largest_{Z}": """
        vmaxv.{U}{Z}            111U 1110 1110 ZZ10 jjjj 1111 0000 mmm0
        vminv.{U}{Z}            111U 1110 1110 ZZ10 jjjj 1111 1000 mmm0
        vmaxav.s{Z}             1110 1110 1110 ZZ00 jjjj 1111 0000 mmm0
        vminav.s{Z}             1110 1110 1110 ZZ00 jjjj 1111 1000 mmm0
    """,
    "vector_to_general": """
        vmov.{U}8               1110 1110 U1.1 nnn. hhhh 1011 0..1 0000
        vmov.{U}16              1110 1110 U0.1 nnn. hhhh 1011 0.11 0000
        vmov.32                 1110 1110 00.1 nnn. hhhh 1011 0001 0000
        vmov                    1110 1100 0000 llll nnn0 1111 000. hhhh
    """,
    "vector_from_general": """
        vmov.8                  1110 1110 01.0 eee. gggg 1011 0..1 0000
        vmov.16                 1110 1110 00.0 eee. gggg 1011 0.11 0000
        vmov.32                 1110 1110 00.0 eee. gggg 1011 0001 0000
        vmov                    1110 1100 0001 ffff eee0 1111 000. gggg
    """,
    "vector_compare": """
        vcmp.i{Z}               1111 1110 00ZZ nnn1 0000 1111 .000 mmm0 >vpr
        vcmp.u{Z}               1111 1110 00ZZ nnn1 0000 1111 .000 mmm1 >vpr
        vcmp.s{Z}               1111 1110 00ZZ nnn1 0001 1111 .000 mmm. >vpr
        vcmp.f{F}               111F 1110 0011 nnn1 0000 1111 .000 mmm0 >vpr
        vcmp.f{F}               111F 1110 0011 nnn1 0001 1111 .000 mmm. >vpr
        vcmp.i{Z}               1111 1110 00ZZ nnn1 0000 1111 .100 gggg >vpr
        vcmp.u{Z}               1111 1110 00ZZ nnn1 0000 1111 .110 gggg >vpr
        vcmp.s{Z}               1111 1110 00ZZ nnn1 0001 1111 .1.0 gggg >vpr
        vcmp.f{F}               111F 1110 0011 nnn1 0000 1111 .100 gggg >vpr g!=1101
        vcmp.f{F}               111F 1110 0011 nnn1 0001 1111 .1.0 gggg >vpr
        vpt.i{Z}                1111 1110 0+ZZ nnn1 +++0 1111 .000 mmm0 >vpr
        vpt.u{Z}                1111 1110 0+ZZ nnn1 +++0 1111 .000 mmm1 >vpr
        vpt.s{Z}                1111 1110 0+ZZ nnn1 +++1 1111 .000 mmm. >vpr
        vpt.f{F}                111F 1110 0+11 nnn1 +++0 1111 .000 mmm0 >vpr
        vpt.f{F}                111F 1110 0+11 nnn1 +++1 1111 .000 mmm. >vpr
        vpt.i{Z}                1111 1110 0+ZZ nnn1 +++0 1111 .100 gggg >vpr
        vpt.u{Z}                1111 1110 0+ZZ nnn1 +++0 1111 .110 gggg >vpr
        vpt.s{Z}                1111 1110 0+ZZ nnn1 +++1 1111 .1.0 gggg >vpr
        vpt.f{F}                111F 1110 0+11 nnn1 +++0 1111 .100 gggg >vpr g!=1101
        vpt.f{F}                111F 1110 0+11 nnn1 +++1 1111 .1.0 gggg >vpr
    """,
    "vector_predicate": """
        vpst                    1111 1110 0+11 0001 +++0 1111 0100 1101 <vpr >vpr
        vpnot                   1111 1110 0011 0001 0000 1111 0100 1101 <vpr >vpr
        vctp.{S}                1111 0000 00SS gggg 1110 1000 0000 0001 >vpr g!=1111
    """,
    "predicate_load": """
        vldr                    1110 1101 .101 bbbb 10.0 1111 1... .... >vpr
        vldr                    1110 110. .111 iiii 10.0 1111 1... .... >vpr
    """,
    "predicate_store": """
        vstr                    1110 1101 .100 bbbb 10.0 1111 1... .... <vpr
        vstr                    1110 110. .110 iiii 10.0 1111 1... .... <vpr
    """,
    "float_system": """
        vmsr                    1110 1110 1110 110. gggg 1010 0001 0000 >vpr
        vmrs                    1110 1110 1111 110. hhhh 1010 0001 0000 <vpr
    """,
    "vector_float_add": """
        vadd.f{F}               1110 1111 000F nnn0 ddd0 1101 0100 mmm0
        vsub.f{F}               1110 1111 001F nnn0 ddd0 1101 0100 mmm0
        vabd.f{F}               1111 1111 001F nnn0 ddd0 1101 0100 mmm0
        vcadd.f{Y}              1111 110. 100Y nnn0 ddd0 1000 0100 mmm0
    """,
    "vector_float_add_general": """
        vadd.f{F}               111F 1110 0011 nnn0 ddd0 1111 0100 gggg
        vsub.f{F}               111F 1110 0011 nnn0 ddd1 1111 0100 gggg
    """,
    "vector_float_compare": """
        vabs.f{P}               1111 1111 1011 PP01 ddd0 0111 0100 mmm0
        vneg.f{P}               1111 1111 1011 PP01 ddd0 0111 1100 mmm0
        vmaxnm.f{F}             1111 1111 000F nnn0 ddd0 1111 0101 mmm0
        vminnm.f{F}             1111 1111 001F nnn0 ddd0 1111 0101 mmm0
        vmaxnma.f{F}            111F 1110 0011 1111 eee0 1110 1000 mmm1
        vminnma.f{F}            111F 1110 0011 1111 eee1 1110 1000 mmm1
    """,
    "vector_float_largest": """
        vmaxnmv.f{F}            111F 1110 1110 1110 jjjj 1111 0000 mmm0
        vminnmv.f{F}            111F 1110 1110 1110 jjjj 1111 1000 mmm0
        vmaxnmav.f{F}           111F 1110 1110 1100 jjjj 1111 0000 mmm0
        vminnmav.f{F}           111F 1110 1110 1100 jjjj 1111 1000 mmm0
    """,
    "vector_float_multiply": """
        vmul.f{F}               1111 1111 000F nnn0 ddd0 1101 0101 mmm0
        vmul.f{F}               111F 1110 0011 nnn1 ddd0 1110 0110 gggg
        vcmul.f{Y}              111Y 1110 0011 nnn0 ddd. 1110 0000 mmm.
    """,
    "vector_float_multiply_add": """
        vfma.f{F}               1110 1111 000F nnn0 aaa0 1100 0101 mmm0
        vfms.f{F}               1110 1111 001F nnn0 aaa0 1100 0101 mmm0
        vfma.f{F}               111F 1110 0011 nnn1 aaa0 1110 0100 gggg
        vfmas.f{F}              111F 1110 0011 nnn1 aaa1 1110 0100 gggg
        vcmla.f{Y}              1111 110. .01Y nnn0 aaa0 1000 0100 mmm0
    """,
    "vector_convert": """
        vcvt.f{P}.{U}{P}        1111 1111 1011 PP11 ddd0 0110 U100 mmm0
        vcvt.{U}{P}.f{P}        1111 1111 1011 PP11 ddd0 0111 U100 mmm0
        vcvt{O}.{U}{P}.f{P}     1111 1111 1011 PP11 ddd0 00OO U100 mmm0
        vcvt.f16.{U}16          111U 1111 1011 .... ddd0 1100 0101 mmm0
        vcvt.{U}16.f16          111U 1111 1011 .... ddd0 1101 0101 mmm0
        vcvt.f32.{U}32          111U 1111 101. .... ddd0 1110 0101 mmm0
        vcvt.{U}32.f32          111U 1111 101. .... ddd0 1111 0101 mmm0
        vcvt{T}.f32.f16         1111 1110 0011 1111 dddT 1110 0000 mmm1
        vrint{L}.f{P}           1111 1111 1011 PP10 ddd0 01LL L100 mmm0
    """,
    "vector_convert_narrow": """
        vcvt{T}.f16.f32         1110 1110 0011 1111 eeeT 1110 0000 mmm1
    """,
    "loop_start": """
        dls                     1111 0000 0100 gggg 1110 0000 0000 0001 >lr
        dlstp.{S}               1111 0000 00SS gggg 1110 0000 0000 0001 >lr g!=1111
        wls                     1111 0000 0100 gggg 1100 .... .... ...1 >lr
        wlstp.{S}               1111 0000 00SS gggg 1100 .... .... ...1 >lr g!=1111
        lctp                    1111 0000 0000 1111 1110 0000 0000 0001
    """,
    "loop_end": """
        le                      1111 0000 0010 1111 1100 .... .... ...1
        le                      1111 0000 0000 1111 1100 .... .... ...1 <lr >lr
        letp                    1111 0000 0001 1111 1100 .... .... ...1 <lr >lr
    """,
    "select": """
        csel                    1110 1010 0101 gggg 1000 hhhh .... ffff f!=1101
        csinc                   1110 1010 0101 gggg 1001 hhhh .... ffff f!=1101
        csinv                   1110 1010 0101 gggg 1010 hhhh .... ffff f!=1101
        csneg                   1110 1010 0101 gggg 1011 hhhh .... ffff f!=1101
    """,
    "shift_long": """
        asrl                    1110 1010 0101 vvv0 0... zzz1 ..10 1111 z!=11.
        lsll                    1110 1010 0101 vvv0 0... zzz1 ..00 1111 z!=11.
        lsrl                    1110 1010 0101 vvv0 0... zzz1 ..01 1111 z!=11.
        asrl                    1110 1010 0101 vvv0 gggg zzz1 0010 1101 z!=11.
        lsll                    1110 1010 0101 vvv0 gggg zzz1 0000 1101 z!=11.
        sqshll                  1110 1010 0101 vvv1 0... zzz1 ..11 1111 z!=11.
        srshrl                  1110 1010 0101 vvv1 0... zzz1 ..10 1111 z!=11.
        uqshll                  1110 1010 0101 vvv1 0... zzz1 ..00 1111 z!=11.
        urshrl                  1110 1010 0101 vvv1 0... zzz1 ..01 1111 z!=11.
        sqrshrl                 1110 1010 0101 vvv1 gggg zzz1 .010 1101 z!=11.
        uqrshll                 1110 1010 0101 vvv1 gggg zzz1 .000 1101 z!=11.
        sqrshr                  1110 1010 0101 uuuu gggg 1111 0010 1101
        uqrshl                  1110 1010 0101 uuuu gggg 1111 0000 1101
        sqshl                   1110 1010 0101 uuuu 0... 1111 ..11 1111
        srshr                   1110 1010 0101 uuuu 0... 1111 ..10 1111
        uqshl                   1110 1010 0101 uuuu 0... 1111 ..00 1111
        urshr                   1110 1010 0101 uuuu 0... 1111 ..01 1111
    """,
    "clear": """
        clrm                    1110 1000 1001 1111 ..0. .... .... ....
        vscclrm                 1110 1100 1.01 1111 .... 101. .... .... >vpr
    """,
}
"""Class -> its instructions."""
