; tinyml_requantize for shift <= -1 and |x| < 2^30: SMMULR rounds and doubles at once
define i32 @tinyml_requantize_right(i32 %x, i32 %multiplier, i32 %shift) alwaysinline nounwind memory(none) {
  %double = shl nsw i32 %x, 1
  %wide_x = sext i32 %double to i64
  %wide_m = sext i32 %multiplier to i64
  %product = mul nsw i64 %wide_x, %wide_m
  %rounded = add i64 %product, 2147483648
  %shifted = lshr i64 %rounded, 32
  %high = trunc i64 %shifted to i32
  %bits = sub i32 0, %shift
  %less = sub i32 %bits, 1
  %half = shl i32 1, %less
  %sign = ashr i32 %high, 31
  %sum = add i32 %high, %half
  %tied = add i32 %sum, %sign
  %result = ashr i32 %tied, %bits
  ret i32 %result
}
