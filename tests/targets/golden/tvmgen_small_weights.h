#ifndef TVMGEN_SMALL_WEIGHTS_H_
#define TVMGEN_SMALL_WEIGHTS_H_
#include <stdint.h>
/* One section for all weights of a memory, so that a linker script can place them. */
#if defined(__GNUC__) && defined(__ELF__)
#define TVMGEN_SMALL_WEIGHTS __attribute__((section(".rodata.tvmgen_small_weights"), aligned(4)))
#else
#define TVMGEN_SMALL_WEIGHTS
#endif
extern const int8_t tvmgen_small_constant_0[72];
extern const int32_t tvmgen_small_constant_1[4];
extern const int32_t tvmgen_small_constant_2[1];
extern const int8_t tvmgen_small_constant_3[1];
extern const int8_t tvmgen_small_constant_4[36];
extern const int32_t tvmgen_small_constant_5[4];
extern const int8_t tvmgen_small_constant_6[1];
extern const int8_t tvmgen_small_constant_7[48];
extern const int32_t tvmgen_small_constant_8[3];
extern const int32_t tvmgen_small_constant_9[1];
extern const int32_t tvmgen_small_constant_10[256];
#endif
