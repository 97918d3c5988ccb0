; tinyml_requantize for shift <= -1 and |x| < 2^30
define i32 @tinyml_requantize_right(i32 %x, i32 %multiplier, i32 %shift) alwaysinline nounwind memory(none) {
  %high = call i32 @tinyml_multiply_q31(i32 %x, i32 %multiplier)
  %bits = sub i32 0, %shift
  %less = sub i32 %bits, 1
  %half = shl i32 1, %less
  %sign = ashr i32 %high, 31
  %sum = add i32 %high, %half
  %tied = add i32 %sum, %sign
  %result = ashr i32 %tied, %bits
  ret i32 %result
}
