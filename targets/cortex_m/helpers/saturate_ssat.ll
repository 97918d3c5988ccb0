declare i32 @llvm.arm.ssat(i32, i32)

define i32 @tinyml_saturate_s8(i32 %x) alwaysinline nounwind memory(none) {
  %result = call i32 @llvm.arm.ssat(i32 %x, i32 8)
  ret i32 %result
}

define i32 @tinyml_saturate_s16(i32 %x) alwaysinline nounwind memory(none) {
  %result = call i32 @llvm.arm.ssat(i32 %x, i32 16)
  ret i32 %result
}
