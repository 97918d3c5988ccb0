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

; a * b in 64 bits
define i64 @tinyml_product_s64(i32 %a, i32 %b) alwaysinline nounwind memory(none) {
  %wide_a = sext i32 %a to i64
  %wide_b = sext i32 %b to i64
  %product = mul nsw i64 %wide_a, %wide_b
  ret i64 %product
}

; round(x * multiplier / 2^32), halves up: SMMULR where there is one
define i32 @tinyml_requantize_reduced(i32 %x, i32 %multiplier) alwaysinline nounwind memory(none) {
  %wide_x = sext i32 %x to i64
  %wide_m = sext i32 %multiplier to i64
  %product = mul nsw i64 %wide_x, %wide_m
  %rounded = add i64 %product, 2147483648
  %shifted = lshr i64 %rounded, 32
  %result = trunc i64 %shifted to i32
  ret i32 %result
}
