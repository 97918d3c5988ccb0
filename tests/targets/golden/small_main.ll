@tvmgen_small_constant_0 = dso_local constant [72 x i8] c"\CF\8B\94\85\AD\50\26\69\01\1B\78\3B\22\0B\0F\6F\C7\51\2C\81\E5\5B\0E\89\44\3B\58\AD\97\5D\86\0B\95\CD\FB\EC\E7\88\82\A0\83\2C\07\26\C2\1D\43\E2\F6\7F\4E\7B\E1\2F\73\26\57\30\34\E4\60\A3\14\38\58\06\E0\D0\EC\FC\38\63", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_1 = dso_local constant [16 x i8] c"\11\03\00\00\0A\FD\FF\FF\48\FF\FF\FF\61\05\00\00", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_2 = dso_local constant [4 x i8] c"\00\85\EB\51", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_3 = dso_local constant [1 x i8] c"\FB", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_4 = dso_local constant [36 x i8] c"\93\18\37\BE\6F\01\1F\4A\08\D7\8D\60\DC\42\96\95\2C\E4\E1\8F\12\D4\55\2C\C1\64\E7\D6\D3\C4\49\13\38\BA\D1\A7", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_5 = dso_local constant [16 x i8] c"\00\F8\FF\FF\00\E6\FF\FF\00\D8\FF\FF\00\A4\FF\FF", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_6 = dso_local constant [1 x i8] c"\FA", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_7 = dso_local constant [48 x i8] c"\5C\F3\65\4C\34\BB\44\8E\12\E8\7F\B3\72\98\1F\14\66\CD\67\2C\64\B3\42\71\8D\DE\23\9B\03\21\43\6D\E9\F1\F9\74\B2\00\8D\ED\72\1F\DA\7E\1A\72\85\F6", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_8 = dso_local constant [12 x i8] c"\00\95\00\00\80\C6\00\00\80\31\00\00", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_9 = dso_local constant [4 x i8] c"\26\66\66\66", section ".rodata.tvmgen_small_weights", align 4
@tvmgen_small_constant_10 = dso_local constant [1024 x i8] c"\FF\FF\FF\7F\74\B6\D1\73\78\2B\CC\68\8F\21\D3\5E\12\0C\CD\55\62\CD\A2\4D\A5\75\3F\46\87\1B\90\3F\6E\9C\83\39\7C\79\0A\34\AB\AB\16\2F\03\85\9B\2A\2F\88\8D\26\4F\52\E2\22\39\7D\90\1F\FD\86\8F\1C\B4\BE\D7\19\7A\2C\62\17\84\83\28\15\7E\10\25\13\59\AA\52\11\F3\A6\AC\0F\40\CC\2E\0E\1A\48\D5\0C\53\A5\9C\0B\B3\C2\81\0A\E9\CB\81\09\B2\30\9A\08\C0\9F\C8\07\35\00\0B\07\16\6C\5F\06\16\2C\C4\05\24\B2\37\05\6A\96\B8\04\44\93\45\04\F1\81\DD\03\FC\57\7F\03\F7\23\2A\03\9F\0B\DD\02\74\49\97\02\AC\2A\58\02\AC\0D\1F\02\03\60\EB\01\50\9D\BC\01\C9\4D\92\01\FE\04\6C\01\E7\60\49\01\B6\08\2A\01\1E\AC\0D\01\76\02\F4\00\FB\C9\DC\00\37\C7\C7\00\4B\C4\B4\00\85\90\A3\00\D3\FF\93\00\50\EA\85\00\ED\2B\79\00\FE\A3\6D\00\F8\34\63\00\20\C4\59\00\46\39\51\00\89\7E\49\00\19\80\42\00\0A\2C\3C\00\27\72\36\00\C2\43\31\00\98\93\2C\00\A3\55\28\00\06\7F\24\00\EB\05\21\00\6B\E1\1D\00\7B\09\1B\00\D1\76\18\00\D4\22\16\00\8F\07\14\00\9B\1F\12\00\17\66\10\00\97\D6\0E\00\1B\6D\0D\00\06\26\0C\00\11\FE\0A\00\46\F2\09\00\F6\FF\08\00\B6\24\08\00\53\5E\07\00\D1\AA\06\00\64\08\06\00\6D\75\05\00\71\F0\04\00\1D\78\04\00\3D\0B\04\00\B9\A8\03\00\95\4F\03\00\EC\FE\02\00\F1\B5\02\00\E7\73\02\00\26\38\02\00\15\02\02\00\29\D1\01\00\E5\A4\01\00\D8\7C\01\00\9A\58\01\00\CF\37\01\00\23\1A\01\00\49\FF\00\00\FE\E6\00\00\03\D1\00\00\1F\BD\00\00\20\AB\00\00\D7\9A\00\00\1B\8C\00\00\C5\7E\00\00\B5\72\00\00\CB\67\00\00\EA\5D\00\00\FA\54\00\00\E4\4C\00\00\93\45\00\00\F4\3E\00\00\F6\38\00\00\8B\33\00\00\A3\2E\00\00\33\2A\00\00\2F\26\00\00\8D\22\00\00\43\1F\00\00\49\1C\00\00\98\19\00\00\29\17\00\00\F5\14\00\00\F6\12\00\00\28\11\00\00\86\0F\00\00\0C\0E\00\00\B6\0C\00\00\80\0B\00\00\68\0A\00\00\6A\09\00\00\85\08\00\00\B5\07\00\00\FA\06\00\00\50\06\00\00\B6\05\00\00\2B\05\00\00\AD\04\00\00\3B\04\00\00\D4\03\00\00\77\03\00\00\22\03\00\00\D6\02\00\00\91\02\00\00\52\02\00\00\1A\02\00\00\E7\01\00\00\B8\01\00\00\8E\01\00\00\69\01\00\00\46\01\00\00\27\01\00\00\0B\01\00\00\F2\00\00\00\DB\00\00\00\C6\00\00\00\B3\00\00\00\A2\00\00\00\93\00\00\00\85\00\00\00\78\00\00\00\6D\00\00\00\62\00\00\00\59\00\00\00\51\00\00\00\49\00\00\00\42\00\00\00\3C\00\00\00\36\00\00\00\31\00\00\00\2C\00\00\00\28\00\00\00\24\00\00\00\21\00\00\00\1E\00\00\00\1B\00\00\00\18\00\00\00\16\00\00\00\14\00\00\00\12\00\00\00\10\00\00\00\0F\00\00\00\0D\00\00\00\0C\00\00\00\0B\00\00\00\0A\00\00\00\09\00\00\00\08\00\00\00\07\00\00\00\07\00\00\00\06\00\00\00\05\00\00\00\05\00\00\00\04\00\00\00\04\00\00\00\04\00\00\00\03\00\00\00\03\00\00\00\03\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\02\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00", section ".rodata.tvmgen_small_weights", align 4
declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)
declare void @tvmgen_small_pad2d_0(ptr, ptr)
declare void @tvmgen_small_conv2d_0(ptr, ptr, ptr, ptr, ptr, ptr)
declare void @tvmgen_small_pad2d_1(ptr, ptr)
declare void @tvmgen_small_depthwise_conv2d_0(ptr, ptr, ptr, ptr, ptr, ptr)
declare void @tvmgen_small_add_0(ptr, ptr, ptr)
declare void @tvmgen_small_avg_pool2d_0(ptr, ptr)
declare void @tvmgen_small_dense_0(ptr, ptr, ptr, ptr, ptr, ptr)
declare void @tvmgen_small_softmax_0(ptr, ptr, ptr)
define i32 @tvmgen_small_run(ptr %inputs, ptr %outputs, ptr %pools) nounwind {
  %bad_1 = icmp eq ptr %inputs, null
  br i1 %bad_1, label %fail_1, label %go_1
fail_1:
  ret i32 -1
go_1:
  %bad_2 = icmp eq ptr %outputs, null
  br i1 %bad_2, label %fail_2, label %go_2
fail_2:
  ret i32 -1
go_2:
  %bad_3 = icmp eq ptr %pools, null
  br i1 %bad_3, label %fail_3, label %go_3
fail_3:
  ret i32 -1
go_3:
  %field_input_0 = getelementptr ptr, ptr %inputs, i32 0
  %input_0 = load ptr, ptr %field_input_0
  %bad_4 = icmp eq ptr %input_0, null
  br i1 %bad_4, label %fail_4, label %go_4
fail_4:
  ret i32 -1
go_4:
  %field_output_0 = getelementptr ptr, ptr %outputs, i32 0
  %output_0 = load ptr, ptr %field_output_0
  %bad_5 = icmp eq ptr %output_0, null
  br i1 %bad_5, label %fail_5, label %go_5
fail_5:
  ret i32 -1
go_5:
  %pool_sram_field = getelementptr ptr, ptr %pools, i32 0
  %pool_sram = load ptr, ptr %pool_sram_field
  %bad_6 = icmp eq ptr %pool_sram, null
  br i1 %bad_6, label %fail_6, label %go_6
fail_6:
  ret i32 -1
go_6:
  %pool_sram_address = ptrtoint ptr %pool_sram to i32
  %pool_sram_rest = and i32 %pool_sram_address, 15
  %bad_7 = icmp ne i32 %pool_sram_rest, 0
  br i1 %bad_7, label %fail_7, label %go_7
fail_7:
  ret i32 -2
go_7:
  call void @tvmgen_small_pad2d_0(ptr %input_0, ptr %pool_sram)
  %p_8 = getelementptr i8, ptr %pool_sram, i32 144
  call void @tvmgen_small_conv2d_0(ptr %pool_sram, ptr @tvmgen_small_constant_0, ptr @tvmgen_small_constant_1, ptr @tvmgen_small_constant_2, ptr @tvmgen_small_constant_3, ptr %p_8)
  %p_9 = getelementptr i8, ptr %pool_sram, i32 144
  call void @tvmgen_small_pad2d_1(ptr %p_9, ptr %pool_sram)
  %p_10 = getelementptr i8, ptr %pool_sram, i32 208
  call void @tvmgen_small_depthwise_conv2d_0(ptr %pool_sram, ptr @tvmgen_small_constant_4, ptr @tvmgen_small_constant_5, ptr @tvmgen_small_constant_2, ptr @tvmgen_small_constant_6, ptr %p_10)
  %p_11 = getelementptr i8, ptr %pool_sram, i32 144
  %p_12 = getelementptr i8, ptr %pool_sram, i32 208
  %p_13 = getelementptr i8, ptr %pool_sram, i32 144
  call void @tvmgen_small_add_0(ptr %p_11, ptr %p_12, ptr %p_13)
  %p_14 = getelementptr i8, ptr %pool_sram, i32 144
  call void @tvmgen_small_avg_pool2d_0(ptr %p_14, ptr %pool_sram)
  %p_15 = getelementptr i8, ptr %pool_sram, i32 16
  call void @tvmgen_small_dense_0(ptr %pool_sram, ptr @tvmgen_small_constant_7, ptr @tvmgen_small_constant_8, ptr @tvmgen_small_constant_9, ptr @tvmgen_small_constant_3, ptr %p_15)
  %p_16 = getelementptr i8, ptr %pool_sram, i32 16
  call void @tvmgen_small_softmax_0(ptr %p_16, ptr @tvmgen_small_constant_10, ptr %output_0)
  ret i32 0
}