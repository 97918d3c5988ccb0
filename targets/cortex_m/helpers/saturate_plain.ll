declare i32 @llvm.smax.i32(i32, i32)
declare i32 @llvm.smin.i32(i32, i32)

define i32 @tinyml_saturate_s8(i32 %x) alwaysinline nounwind memory(none) {
  %low = call i32 @llvm.smax.i32(i32 %x, i32 -128)
  %result = call i32 @llvm.smin.i32(i32 %low, i32 127)
  ret i32 %result
}

define i32 @tinyml_saturate_s16(i32 %x) alwaysinline nounwind memory(none) {
  %low = call i32 @llvm.smax.i32(i32 %x, i32 -32768)
  %result = call i32 @llvm.smin.i32(i32 %low, i32 32767)
  ret i32 %result
}
