; Products of four bytes with SXTB16 and SMLAD, SMLABB, SMLATT
declare i32 @llvm.arm.sxtb16(i32)
declare i32 @llvm.arm.smlad(i32, i32, i32)
declare i32 @llvm.arm.smlabb(i32, i32, i32)
declare i32 @llvm.arm.smlatt(i32, i32, i32)
declare i32 @llvm.fshr.i32(i32, i32, i32)

; sum + a[0..3] . b[0..3]
define i32 @tinyml_dot4_s8(ptr %a, ptr %b, i32 %sum) alwaysinline nounwind memory(argmem: read) {
  %x = load i32, ptr %a, align 1
  %y = load i32, ptr %b, align 1
  %x02 = call i32 @llvm.arm.sxtb16(i32 %x)
  %y02 = call i32 @llvm.arm.sxtb16(i32 %y)
  %xr = call i32 @llvm.fshr.i32(i32 %x, i32 %x, i32 8)
  %yr = call i32 @llvm.fshr.i32(i32 %y, i32 %y, i32 8)
  %x13 = call i32 @llvm.arm.sxtb16(i32 %xr)
  %y13 = call i32 @llvm.arm.sxtb16(i32 %yr)
  %first = call i32 @llvm.arm.smlad(i32 %x02, i32 %y02, i32 %sum)
  %result = call i32 @llvm.arm.smlad(i32 %x13, i32 %y13, i32 %first)
  ret i32 %result
}

; sums[i] += a[i] * b[i] for i in 0..3
define i32 @tinyml_mac4_s8(ptr %sums, ptr %a, ptr %b) alwaysinline nounwind memory(argmem: readwrite) {
  %x = load i32, ptr %a, align 1
  %y = load i32, ptr %b, align 1
  %x02 = call i32 @llvm.arm.sxtb16(i32 %x)
  %y02 = call i32 @llvm.arm.sxtb16(i32 %y)
  %xr = call i32 @llvm.fshr.i32(i32 %x, i32 %x, i32 8)
  %yr = call i32 @llvm.fshr.i32(i32 %y, i32 %y, i32 8)
  %x13 = call i32 @llvm.arm.sxtb16(i32 %xr)
  %y13 = call i32 @llvm.arm.sxtb16(i32 %yr)
  %p1 = getelementptr i32, ptr %sums, i32 1
  %p2 = getelementptr i32, ptr %sums, i32 2
  %p3 = getelementptr i32, ptr %sums, i32 3
  %s0 = load i32, ptr %sums, align 4
  %s1 = load i32, ptr %p1, align 4
  %s2 = load i32, ptr %p2, align 4
  %s3 = load i32, ptr %p3, align 4
  %t0 = call i32 @llvm.arm.smlabb(i32 %x02, i32 %y02, i32 %s0)
  %t1 = call i32 @llvm.arm.smlabb(i32 %x13, i32 %y13, i32 %s1)
  %t2 = call i32 @llvm.arm.smlatt(i32 %x02, i32 %y02, i32 %s2)
  %t3 = call i32 @llvm.arm.smlatt(i32 %x13, i32 %y13, i32 %s3)
  store i32 %t0, ptr %sums, align 4
  store i32 %t1, ptr %p1, align 4
  store i32 %t2, ptr %p2, align 4
  store i32 %t3, ptr %p3, align 4
  ret i32 0
}

; sum + x[0..3] . w[0..3], halves and bytes, the bytes stored in the order 0, 2, 1, 3
define i32 @tinyml_dot4_s16s8(ptr %x, ptr %w, i32 %sum) alwaysinline nounwind memory(argmem: read) {
  %next = getelementptr i16, ptr %x, i32 2
  %x01 = load i32, ptr %x, align 1
  %x23 = load i32, ptr %next, align 1
  %y = load i32, ptr %w, align 1
  %y01 = call i32 @llvm.arm.sxtb16(i32 %y)
  %yr = call i32 @llvm.fshr.i32(i32 %y, i32 %y, i32 8)
  %y23 = call i32 @llvm.arm.sxtb16(i32 %yr)
  %first = call i32 @llvm.arm.smlad(i32 %x01, i32 %y01, i32 %sum)
  %result = call i32 @llvm.arm.smlad(i32 %x23, i32 %y23, i32 %first)
  ret i32 %result
}

; sums[i] += x[i] * w[i] for i in 0..3, the bytes of w stored in the order 0, 2, 1, 3
define i32 @tinyml_mac4_s16s8(ptr %sums, ptr %x, ptr %w) alwaysinline nounwind memory(argmem: readwrite) {
  %next = getelementptr i16, ptr %x, i32 2
  %x01 = load i32, ptr %x, align 1
  %x23 = load i32, ptr %next, align 1
  %y = load i32, ptr %w, align 1
  %y01 = call i32 @llvm.arm.sxtb16(i32 %y)
  %yr = call i32 @llvm.fshr.i32(i32 %y, i32 %y, i32 8)
  %y23 = call i32 @llvm.arm.sxtb16(i32 %yr)
  %p1 = getelementptr i32, ptr %sums, i32 1
  %p2 = getelementptr i32, ptr %sums, i32 2
  %p3 = getelementptr i32, ptr %sums, i32 3
  %s0 = load i32, ptr %sums, align 4
  %s1 = load i32, ptr %p1, align 4
  %s2 = load i32, ptr %p2, align 4
  %s3 = load i32, ptr %p3, align 4
  %t0 = call i32 @llvm.arm.smlabb(i32 %x01, i32 %y01, i32 %s0)
  %t1 = call i32 @llvm.arm.smlatt(i32 %x01, i32 %y01, i32 %s1)
  %t2 = call i32 @llvm.arm.smlabb(i32 %x23, i32 %y23, i32 %s2)
  %t3 = call i32 @llvm.arm.smlatt(i32 %x23, i32 %y23, i32 %s3)
  store i32 %t0, ptr %sums, align 4
  store i32 %t1, ptr %p1, align 4
  store i32 %t2, ptr %p2, align 4
  store i32 %t3, ptr %p3, align 4
  ret i32 0
}
