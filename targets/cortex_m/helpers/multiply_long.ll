; round(a * b / 2^31), halves up, on cores with SMULL
define i32 @tinyml_multiply_q31(i32 %a, i32 %b) alwaysinline nounwind memory(none) {
  %wide_a = sext i32 %a to i64
  %wide_b = sext i32 %b to i64
  %product = mul nsw i64 %wide_a, %wide_b
  %rounded = add i64 %product, 1073741824
  %high = ashr i64 %rounded, 31
  %result = trunc i64 %high to i32
  ret i32 %result
}
