; Helpers for every core; the multiplication comes from multiply_*.ll, the epilogue from requantize_*.ll.
declare i32 @llvm.ctlz.i32(i32, i1)
declare void @llvm.memset.p0.i32(ptr, i8, i32, i1)
declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)
declare i32 @llvm.smax.i32(i32, i32)
declare i32 @llvm.fshr.i32(i32, i32, i32)

; round(x / 2^bits), halves away from zero; bits in 0..31
define i32 @tinyml_rounding_right_shift(i32 %x, i32 %bits) alwaysinline nounwind memory(none) {
  %power = shl i32 1, %bits
  %mask = sub i32 %power, 1
  %rest = and i32 %x, %mask
  %half = lshr i32 %mask, 1
  %sign = lshr i32 %x, 31
  %threshold = add i32 %half, %sign
  %down = ashr i32 %x, %bits
  %above = icmp sgt i32 %rest, %threshold
  %one = zext i1 %above to i32
  %result = add i32 %down, %one
  ret i32 %result
}

; x * multiplier * 2^(shift - 31), rounded twice; the left shift saturates
define i32 @tinyml_requantize(i32 %x, i32 %multiplier, i32 %shift) alwaysinline nounwind memory(none) {
  %left = call i32 @llvm.smax.i32(i32 %shift, i32 0)
  %negated = sub i32 0, %shift
  %right = call i32 @llvm.smax.i32(i32 %negated, i32 0)
  %shifted = shl i32 %x, %left
  %back = ashr i32 %shifted, %left
  %exact = icmp eq i32 %back, %x
  %sign = ashr i32 %x, 31
  %limit = xor i32 %sign, 2147483647
  %raised = select i1 %exact, i32 %shifted, i32 %limit
  %high = call i32 @tinyml_multiply_q31(i32 %raised, i32 %multiplier)
  %result = call i32 @tinyml_rounding_right_shift(i32 %high, i32 %right)
  ret i32 %result
}

define i32 @tinyml_leading_zeros(i32 %x) alwaysinline nounwind memory(none) {
  %result = call i32 @llvm.ctlz.i32(i32 %x, i1 false)
  ret i32 %result
}

define i32 @tinyml_fill(ptr %to, i32 %value, i32 %bytes) alwaysinline nounwind {
  %byte = trunc i32 %value to i8
  call void @llvm.memset.p0.i32(ptr align 1 %to, i8 %byte, i32 %bytes, i1 false)
  ret i32 0
}

define i32 @tinyml_copy(ptr %to, ptr %from, i32 %bytes) alwaysinline nounwind {
  call void @llvm.memcpy.p0.p0.i32(ptr align 1 %to, ptr align 1 %from, i32 %bytes, i1 false)
  ret i32 0
}

; round(x * multiplier / 2^(32 + bits)), halves up, of a sum of 48 bits; bits in -8..30, the lower half of the multiplier
; is 0
define i32 @tinyml_requantize_reduced_long(i64 %x, i32 %multiplier, i32 %bits) alwaysinline nounwind memory(none) {
  %m = ashr i32 %multiplier, 16
  %wide_m = sext i32 %m to i64
  %product = mul nsw i64 %x, %wide_m
  %right = add i32 %bits, 16
  ; half a unit, and the shift, in words: cores with Helium have shifts of pairs that simulators need not know
  %less = sub i32 %right, 1
  %less_in_word = and i32 %less, 31
  %bit = shl i32 1, %less_in_word
  %half_is_low = icmp ult i32 %less, 32
  %half_low = select i1 %half_is_low, i32 %bit, i32 0
  %half_high = select i1 %half_is_low, i32 0, i32 %bit
  %wide_low = zext i32 %half_low to i64
  %wide_bit = zext i32 %half_high to i64
  %wide_high = shl i64 %wide_bit, 32
  %half = or i64 %wide_high, %wide_low
  %sum = add i64 %product, %half
  %low = trunc i64 %sum to i32
  %upper = ashr i64 %sum, 32
  %high = trunc i64 %upper to i32
  %in_word = and i32 %right, 31
  %short = call i32 @llvm.fshr.i32(i32 %high, i32 %low, i32 %in_word)
  %long = ashr i32 %high, %in_word
  %is_short = icmp ult i32 %right, 32
  %result = select i1 %is_short, i32 %short, i32 %long
  ret i32 %result
}

; a function of an int16 number by 513 points: the upper 9 bits choose, the lower 7 interpolate
define i32 @tinyml_interpolate(i32 %x, ptr %points) alwaysinline nounwind memory(argmem: read) {
  %step = ashr i32 %x, 7
  %index = add i32 %step, 256
  %at = getelementptr i16, ptr %points, i32 %index
  %next = getelementptr i16, ptr %at, i32 1
  %narrow_base = load i16, ptr %at, align 2
  %narrow_end = load i16, ptr %next, align 2
  %base = sext i16 %narrow_base to i32
  %end = sext i16 %narrow_end to i32
  %slope = sub i32 %end, %base
  %offset = and i32 %x, 127
  %product = mul nsw i32 %slope, %offset
  %rounded = add i32 %product, 64
  %delta = ashr i32 %rounded, 7
  %result = add i32 %base, %delta
  ret i32 %result
}
