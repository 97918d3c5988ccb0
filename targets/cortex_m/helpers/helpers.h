/* Arithmetic of TFLite's int8 and 16x8 kernels. Every shift of a negative number is arithmetic, as on all Arm compilers. */
#include <stdint.h>
#include <string.h>
#if defined(__ARM_FEATURE_SAT) || defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#endif

/* round(a * b / 2^31), halves towards plus infinity */
static inline int32_t tinyml_multiply_q31(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* round(x / 2^bits), halves away from zero; bits in 0..31 */
static inline int32_t tinyml_rounding_right_shift(int32_t x, int32_t bits) {
  const int32_t mask = (int32_t)(((uint32_t)1 << bits) - 1u);
  const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> bits) + ((x & mask) > threshold ? 1 : 0);
}

/* x * multiplier * 2^(shift - 31), rounded twice; shift in -31..30; the left shift saturates */
static inline int32_t tinyml_requantize(int32_t x, int32_t multiplier, int32_t shift) {
  int64_t raised = (int64_t)x * ((int64_t)1 << (shift > 0 ? shift : 0));
  if (raised > INT32_MAX) raised = INT32_MAX;
  if (raised < INT32_MIN) raised = INT32_MIN;
  return tinyml_rounding_right_shift(tinyml_multiply_q31((int32_t)raised, multiplier), shift > 0 ? 0 : -shift);
}

/* the same for shift <= -1 and |x| < 2^30, where nothing can overflow */
static inline int32_t tinyml_requantize_right(int32_t x, int32_t multiplier, int32_t shift) {
  const int32_t high = tinyml_multiply_q31(x, multiplier);
  return (high + (1 << (-shift - 1)) + (high >> 31)) >> -shift;
}

/* round(x * multiplier / 2^32), halves up, of an even multiplier */
static inline int32_t tinyml_requantize_reduced(int32_t x, int32_t multiplier) {
  return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 31)) >> 32);
}

/* round(x * multiplier / 2^(32 + bits)), halves up, of a sum of 48 bits; bits in -8..30, the lower half of the multiplier
   is 0 */
static inline int32_t tinyml_requantize_reduced_long(int64_t x, int32_t multiplier, int32_t bits) {
  return (int32_t)((x * (multiplier >> 16) + ((int64_t)1 << (bits + 15))) >> (bits + 16));
}

static inline int64_t tinyml_product_s64(int32_t a, int32_t b) { return (int64_t)a * b; }

/* a function of an int16 number by 513 points: the upper 9 bits choose, the lower 7 interpolate */
static inline int32_t tinyml_interpolate(int32_t x, const int16_t *points) {
  const int32_t base = points[256 + (x >> 7)], end = points[257 + (x >> 7)];
  return base + (((end - base) * (x & 127) + 64) >> 7);
}

static inline int32_t tinyml_saturate_s16(int32_t x) {
#if defined(__ARM_FEATURE_SAT)
  return __ssat(x, 16);
#else
  return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
#endif
}

static inline int32_t tinyml_saturate_s8(int32_t x) {
#if defined(__ARM_FEATURE_SAT)
  return __ssat(x, 8);
#else
  return x < -128 ? -128 : x > 127 ? 127 : x;
#endif
}

static inline int32_t tinyml_bound(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

static inline int32_t tinyml_leading_zeros(int32_t x) {
  int32_t zeros = 0;
  uint32_t rest = (uint32_t)x;
  while (zeros < 32 && (rest & 0x80000000u) == 0u) {
    rest <<= 1;
    ++zeros;
  }
  return zeros;
}

static inline void tinyml_fill(void *to, int32_t value, int32_t bytes) { memset(to, value, (size_t)bytes); }

static inline void tinyml_copy(void *to, const void *from, int32_t bytes) { memcpy(to, from, (size_t)bytes); }

#if defined(__ARM_FEATURE_SIMD32)
static inline uint32_t tinyml_word(const void *p) {
  uint32_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

static inline uint32_t tinyml_rotate8(uint32_t word) { return (word >> 8) | (word << 24); }

/* sum + a[0..3] . b[0..3] */
static inline int32_t tinyml_dot4_s8(const int8_t *a, const int8_t *b, int32_t sum) {
  const uint32_t x = tinyml_word(a), y = tinyml_word(b);
  sum = __smlad(__sxtb16((int8x4_t)x), __sxtb16((int8x4_t)y), sum);
  return __smlad(__sxtb16((int8x4_t)tinyml_rotate8(x)), __sxtb16((int8x4_t)tinyml_rotate8(y)), sum);
}

/* sums[i] += a[i] * b[i] for i in 0..3 */
static inline void tinyml_mac4_s8(int32_t *sums, const int8_t *a, const int8_t *b) {
  const uint32_t x = tinyml_word(a), y = tinyml_word(b);
  const int16x2_t x02 = __sxtb16((int8x4_t)x), x13 = __sxtb16((int8x4_t)tinyml_rotate8(x));
  const int16x2_t y02 = __sxtb16((int8x4_t)y), y13 = __sxtb16((int8x4_t)tinyml_rotate8(y));
  sums[0] = __smlabb((int32_t)x02, (int32_t)y02, sums[0]);
  sums[1] = __smlabb((int32_t)x13, (int32_t)y13, sums[1]);
  sums[2] = __smlatt((int32_t)x02, (int32_t)y02, sums[2]);
  sums[3] = __smlatt((int32_t)x13, (int32_t)y13, sums[3]);
}

/* sum + x[0..3] . w[0..3], the bytes of w stored in the order 0, 2, 1, 3 */
static inline int32_t tinyml_dot4_s16s8(const int16_t *x, const int8_t *w, int32_t sum) {
  const uint32_t y = tinyml_word(w);
  sum = __smlad((int16x2_t)tinyml_word(x), __sxtb16((int8x4_t)y), sum);
  return __smlad((int16x2_t)tinyml_word(x + 2), __sxtb16((int8x4_t)tinyml_rotate8(y)), sum);
}

/* sums[i] += x[i] * w[i] for i in 0..3, the bytes of w stored in the order 0, 2, 1, 3 */
static inline void tinyml_mac4_s16s8(int32_t *sums, const int16_t *x, const int8_t *w) {
  const uint32_t y = tinyml_word(w), x01 = tinyml_word(x), x23 = tinyml_word(x + 2);
  const int16x2_t y01 = __sxtb16((int8x4_t)y), y23 = __sxtb16((int8x4_t)tinyml_rotate8(y));
  sums[0] = __smlabb((int32_t)x01, (int32_t)y01, sums[0]);
  sums[1] = __smlatt((int32_t)x01, (int32_t)y01, sums[1]);
  sums[2] = __smlabb((int32_t)x23, (int32_t)y23, sums[2]);
  sums[3] = __smlatt((int32_t)x23, (int32_t)y23, sums[3]);
}
#else
static inline int32_t tinyml_dot4_s8(const int8_t *a, const int8_t *b, int32_t sum) {
  return sum + a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}

static inline void tinyml_mac4_s8(int32_t *sums, const int8_t *a, const int8_t *b) {
  sums[0] += a[0] * b[0];
  sums[1] += a[1] * b[1];
  sums[2] += a[2] * b[2];
  sums[3] += a[3] * b[3];
}

static inline int32_t tinyml_dot4_s16s8(const int16_t *x, const int8_t *w, int32_t sum) {
  return sum + x[0] * w[0] + x[1] * w[2] + x[2] * w[1] + x[3] * w[3];
}

static inline void tinyml_mac4_s16s8(int32_t *sums, const int16_t *x, const int8_t *w) {
  sums[0] += x[0] * w[0];
  sums[1] += x[1] * w[2];
  sums[2] += x[2] * w[1];
  sums[3] += x[3] * w[3];
}
#endif
