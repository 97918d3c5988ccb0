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

; round(x * multiplier / 2^(32 + bits)), halves up, for bits >= 1: SMMLA and a shift
define i32 @tinyml_requantize_reduced(i32 %x, i32 %multiplier, i32 %bits) alwaysinline nounwind memory(none) {
  %wide_x = sext i32 %x to i64
  %wide_m = sext i32 %multiplier to i64
  %product = mul nsw i64 %wide_x, %wide_m
  %shifted = ashr i64 %product, 32
  %high = trunc i64 %shifted to i32
  %less = sub i32 %bits, 1
  %half = shl i32 1, %less
  %sum = add i32 %high, %half
  %result = ashr i32 %sum, %bits
  ret i32 %result
}
