; Helpers for every core; the multiplication comes from multiply_*.ll, the epilogue from requantize_*.ll.
declare i32 @llvm.ctlz.i32(i32, i1)
declare void @llvm.memset.p0.i32(ptr, i8, i32, i1)
declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)
declare i32 @llvm.smax.i32(i32, i32)

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
