; round(a * b / 2^31), halves up, from four products of halfwords: ARMv6-M multiplies 32 bits to 32 only
define i32 @tinyml_multiply_q31(i32 %a, i32 %b) alwaysinline nounwind memory(none) {
  %al = and i32 %a, 65535
  %bl = and i32 %b, 65535
  %ah = ashr i32 %a, 16
  %bh = ashr i32 %b, 16
  %low = mul i32 %al, %bl
  %cross1 = mul i32 %ah, %bl
  %cross2 = mul i32 %al, %bh
  %high = mul i32 %ah, %bh
  ; the products' parts of weight 2^16 and above, in two steps so that nothing overflows
  %low_part = lshr i32 %low, 16
  %cross1_low = and i32 %cross1, 65535
  %cross2_low = and i32 %cross2, 65535
  %middle1 = add i32 %low_part, %cross1_low
  %middle = add i32 %middle1, %cross2_low
  %cross1_high = ashr i32 %cross1, 16
  %cross2_high = ashr i32 %cross2, 16
  %top1 = add i32 %high, %cross1_high
  %top2 = add i32 %top1, %cross2_high
  ; plus 2^30, which is 2^14 at this weight; the bits below 2^16 cannot reach it
  %rounded = add i32 %middle, 16384
  %carry = lshr i32 %rounded, 16
  %top = add i32 %top2, %carry
  %doubled = shl i32 %top, 1
  %bit31 = lshr i32 %rounded, 15
  %last = and i32 %bit31, 1
  %result = or i32 %doubled, %last
  ret i32 %result
}

; a * b, which fits 32 bits, in 64
define i64 @tinyml_product_s64(i32 %a, i32 %b) alwaysinline nounwind memory(none) {
  %product = mul nsw i32 %a, %b
  %result = sext i32 %product to i64
  ret i64 %result
}

; round(x * multiplier / 2^32), halves up, of an even multiplier
define i32 @tinyml_requantize_reduced(i32 %x, i32 %multiplier) alwaysinline nounwind memory(none) {
  %half = ashr i32 %multiplier, 1
  %result = call i32 @tinyml_multiply_q31(i32 %x, i32 %half)
  ret i32 %result
}
