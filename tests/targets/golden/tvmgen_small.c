/* small: 7 calls, 1776 multiply-accumulates. Generated code. */
#include "tvmgen_small.h"

#include "tvmgen_small_helpers.h"
#include "tvmgen_small_weights.h"

static void tvmgen_small_pad2d_0(const int8_t *restrict x, int8_t *restrict output) {
  for (int32_t y = 0; y < 6; ++y) {
    int32_t cse_v1 = (y * 12);
    if ((y < 1) || (y == 5)) {
      tinyml_fill((&(output[cse_v1])), -3, 12);
    } else {
      tinyml_fill((&(output[cse_v1])), -3, 2);
      tinyml_copy((&(output[(cse_v1 + 2)])), (&(x[((y * 8) - 8)])), 8);
      tinyml_fill((&(output[(cse_v1 + 10)])), -3, 2);
    }
  }
}

static void tvmgen_small_conv2d_0(const int8_t *restrict x, const int8_t *restrict weight, const int32_t *restrict bias, const int32_t *restrict multiplier, const int8_t *restrict shift, int8_t *restrict output) {
  int32_t dot_ptr[4];
  int32_t tail_ptr[4];
  for (int32_t i3_0 = 0; i3_0 < 2; ++i3_0) {
    for (int32_t i1 = 0; i1 < 4; ++i1) {
      for (int32_t i2_0 = 0; i2_0 < 2; ++i2_0) {
        dot_ptr[0] = 0;
        dot_ptr[1] = 0;
        dot_ptr[2] = 0;
        dot_ptr[3] = 0;
        int32_t cse_v1 = (i1 * 12);
        int32_t cse_v2 = (i2_0 * 4);
        int32_t cse_v3 = (i3_0 * 36);
        for (int32_t ax4 = 0; ax4 < 3; ++ax4) {
          int32_t cse_v5 = (cse_v3 + (ax4 * 6));
          int32_t cse_v7 = ((cse_v1 + (ax4 * 12)) + cse_v2);
          dot_ptr[0] = tinyml_dot4_s8((&(x[cse_v7])), (&(weight[cse_v5])), dot_ptr[0]);
          int32_t cse_v8 = (cse_v5 + 18);
          dot_ptr[1] = tinyml_dot4_s8((&(x[cse_v7])), (&(weight[cse_v8])), dot_ptr[1]);
          int32_t cse_v11 = (cse_v7 + 2);
          dot_ptr[2] = tinyml_dot4_s8((&(x[cse_v11])), (&(weight[cse_v5])), dot_ptr[2]);
          dot_ptr[3] = tinyml_dot4_s8((&(x[cse_v11])), (&(weight[cse_v8])), dot_ptr[3]);
        }
        tail_ptr[0] = 0;
        tail_ptr[1] = 0;
        tail_ptr[2] = 0;
        tail_ptr[3] = 0;
        for (int32_t ax4_1 = 0; ax4_1 < 3; ++ax4_1) {
          for (int32_t ax6 = 0; ax6 < 2; ++ax6) {
            int32_t cse_v9 = ((cse_v3 + (ax4_1 * 6)) + ax6);
            int32_t cse_v12 = (((cse_v1 + (ax4_1 * 12)) + cse_v2) + ax6);
            int32_t cse_v13 = (cse_v9 + 4);
            int32_t cse_v15 = (cse_v12 + 4);
            tail_ptr[0] = (tail_ptr[0] + (((int32_t)x[cse_v15]) * ((int32_t)weight[cse_v13])));
            int32_t cse_v14 = (cse_v9 + 22);
            tail_ptr[1] = (tail_ptr[1] + (((int32_t)x[cse_v15]) * ((int32_t)weight[cse_v14])));
            int32_t cse_v16 = (cse_v12 + 6);
            tail_ptr[2] = (tail_ptr[2] + (((int32_t)x[cse_v16]) * ((int32_t)weight[cse_v13])));
            tail_ptr[3] = (tail_ptr[3] + (((int32_t)x[cse_v16]) * ((int32_t)weight[cse_v14])));
          }
        }
        int32_t cse_v4 = (i3_0 * 2);
        int32_t cse_v10 = (((i1 * 16) + (i2_0 * 8)) + cse_v4);
        output[cse_v10] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right(((dot_ptr[0] + tail_ptr[0]) + bias[cse_v4]), multiplier[0], ((int32_t)shift[0])) - 128)));
        int32_t cse_v6 = (cse_v4 + 1);
        output[(cse_v10 + 1)] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right(((dot_ptr[1] + tail_ptr[1]) + bias[cse_v6]), multiplier[0], ((int32_t)shift[0])) - 128)));
        output[(cse_v10 + 4)] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right(((dot_ptr[2] + tail_ptr[2]) + bias[cse_v4]), multiplier[0], ((int32_t)shift[0])) - 128)));
        output[(cse_v10 + 5)] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right(((dot_ptr[3] + tail_ptr[3]) + bias[cse_v6]), multiplier[0], ((int32_t)shift[0])) - 128)));
      }
    }
  }
}

static void tvmgen_small_pad2d_1(const int8_t *restrict x, int8_t *restrict output) {
  for (int32_t y = 0; y < 6; ++y) {
    int32_t cse_v1 = (y * 24);
    if ((y < 1) || (y == 5)) {
      tinyml_fill((&(output[cse_v1])), -128, 24);
    } else {
      tinyml_fill((&(output[cse_v1])), -128, 4);
      tinyml_copy((&(output[(cse_v1 + 4)])), (&(x[((y * 16) - 16)])), 16);
      tinyml_fill((&(output[(cse_v1 + 20)])), -128, 4);
    }
  }
}

static void tvmgen_small_conv2d_add_0(const int8_t *x, const int8_t *weight, const int32_t *bias, const int32_t *multiplier, const int8_t *shift, const int8_t *added, int8_t *output) {
  int32_t depthwise_ptr[4];
  for (int32_t i1 = 0; i1 < 4; ++i1) {
    for (int32_t i2 = 0; i2 < 4; ++i2) {
      depthwise_ptr[0] = 0;
      depthwise_ptr[1] = 0;
      depthwise_ptr[2] = 0;
      depthwise_ptr[3] = 0;
      int32_t cse_v1 = (i2 * 4);
      int32_t cse_v2 = ((i1 * 24) + cse_v1);
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[cse_v2])), (&(weight[0])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 4)])), (&(weight[4])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 8)])), (&(weight[8])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 24)])), (&(weight[12])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 28)])), (&(weight[16])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 32)])), (&(weight[20])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 48)])), (&(weight[24])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 52)])), (&(weight[28])));
      tinyml_mac4_s8((&(depthwise_ptr[0])), (&(x[(cse_v2 + 56)])), (&(weight[32])));
      int32_t cse_v3 = ((i1 * 16) + cse_v1);
      output[cse_v3] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((tinyml_requantize(((((int32_t)((int8_t)tinyml_saturate_s8((tinyml_requantize_right((depthwise_ptr[0] + bias[0]), multiplier[0], ((int32_t)shift[0])) - 128)))) * 1048576) + 134217728), 1073741824, 0) + tinyml_requantize(((((int32_t)added[cse_v3]) * 1048576) + 134217728), 1073741824, 0)), 1073741824, -18) - 128)));
      int32_t cse_v4 = (cse_v3 + 1);
      output[cse_v4] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((tinyml_requantize(((((int32_t)((int8_t)tinyml_saturate_s8((tinyml_requantize_right((depthwise_ptr[1] + bias[1]), multiplier[0], ((int32_t)shift[0])) - 128)))) * 1048576) + 134217728), 1073741824, 0) + tinyml_requantize(((((int32_t)added[cse_v4]) * 1048576) + 134217728), 1073741824, 0)), 1073741824, -18) - 128)));
      int32_t cse_v5 = (cse_v3 + 2);
      output[cse_v5] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((tinyml_requantize(((((int32_t)((int8_t)tinyml_saturate_s8((tinyml_requantize_right((depthwise_ptr[2] + bias[2]), multiplier[0], ((int32_t)shift[0])) - 128)))) * 1048576) + 134217728), 1073741824, 0) + tinyml_requantize(((((int32_t)added[cse_v5]) * 1048576) + 134217728), 1073741824, 0)), 1073741824, -18) - 128)));
      int32_t cse_v6 = (cse_v3 + 3);
      output[cse_v6] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((tinyml_requantize(((((int32_t)((int8_t)tinyml_saturate_s8((tinyml_requantize_right((depthwise_ptr[3] + bias[3]), multiplier[0], ((int32_t)shift[0])) - 128)))) * 1048576) + 134217728), 1073741824, 0) + tinyml_requantize(((((int32_t)added[cse_v6]) * 1048576) + 134217728), 1073741824, 0)), 1073741824, -18) - 128)));
    }
  }
}

static void tvmgen_small_avg_pool2d_0(const int8_t *restrict x, int8_t *restrict output) {
  int32_t sum_ptr[1];
  for (int32_t y = 0; y < 2; ++y) {
    for (int32_t v = 0; v < 2; ++v) {
      for (int32_t c = 0; c < 4; ++c) {
        sum_ptr[0] = 0;
        for (int32_t ax4 = 0; ax4 < 2; ++ax4) {
          for (int32_t ax5 = 0; ax5 < 2; ++ax5) {
            sum_ptr[0] = (sum_ptr[0] + ((int32_t)x[(((((y * 32) + (ax4 * 16)) + (v * 8)) + (ax5 * 4)) + c)]));
          }
        }
        output[(((y * 8) + (v * 4)) + c)] = ((int8_t)tinyml_saturate_s8(((((sum_ptr[0] + (sum_ptr[0] >> 31)) + 514) >> 2) - 128)));
      }
    }
  }
}

static void tvmgen_small_dense_0(const int8_t *restrict x, const int8_t *restrict weight, const int32_t *restrict bias, const int32_t *restrict multiplier, const int8_t *restrict shift, int8_t *restrict output) {
  int32_t dot_ptr[3];
  dot_ptr[0] = 0;
  dot_ptr[1] = 0;
  dot_ptr[2] = 0;
  for (int32_t ax2_0 = 0; ax2_0 < 4; ++ax2_0) {
    int32_t cse_v1 = (ax2_0 * 4);
    dot_ptr[0] = tinyml_dot4_s8((&(x[cse_v1])), (&(weight[cse_v1])), dot_ptr[0]);
    dot_ptr[1] = tinyml_dot4_s8((&(x[cse_v1])), (&(weight[(cse_v1 + 16)])), dot_ptr[1]);
    dot_ptr[2] = tinyml_dot4_s8((&(x[cse_v1])), (&(weight[(cse_v1 + 32)])), dot_ptr[2]);
  }
  output[0] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((dot_ptr[0] + bias[0]), multiplier[0], ((int32_t)shift[0])) + 4)));
  output[1] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((dot_ptr[1] + bias[1]), multiplier[0], ((int32_t)shift[0])) + 4)));
  output[2] = ((int8_t)tinyml_saturate_s8((tinyml_requantize_right((dot_ptr[2] + bias[2]), multiplier[0], ((int32_t)shift[0])) + 4)));
}

static void tvmgen_small_softmax_0(const int8_t *restrict x, const int32_t *restrict table, int8_t *restrict output) {
  int32_t largest_ptr[1];
  int32_t total_ptr[1];
  int32_t zeros_ptr[1];
  int32_t inverse_ptr[1];
  largest_ptr[0] = -128;
  for (int32_t k = 0; k < 3; ++k) {
    int32_t v_ = largest_ptr[0];
    int32_t v__1 = (int32_t)x[k];
    largest_ptr[0] = ((v_) > (v__1) ? (v_) : (v__1));
  }
  total_ptr[0] = 0;
  for (int32_t k_1 = 0; k_1 < 3; ++k_1) {
    total_ptr[0] = (total_ptr[0] + tinyml_rounding_right_shift(table[(largest_ptr[0] - ((int32_t)x[k_1]))], 12));
  }
  zeros_ptr[0] = tinyml_leading_zeros(total_ptr[0]);
  total_ptr[0] = (total_ptr[0] << (zeros_ptr[0] - 1));
  inverse_ptr[0] = (tinyml_multiply_q31(total_ptr[0], -1010580540) + 1515870810);
  for (int32_t __1 = 0; __1 < 3; ++__1) {
    inverse_ptr[0] = ((tinyml_multiply_q31(inverse_ptr[0], (536870912 - tinyml_multiply_q31(total_ptr[0], inverse_ptr[0]))) * 4) + inverse_ptr[0]);
  }
  int32_t condval;
  if (1073741824 <= inverse_ptr[0]) {
    condval = 2147483647;
  } else {
    condval = (inverse_ptr[0] * 2);
  }
  inverse_ptr[0] = condval;
  int32_t condval_1;
  if (zeros_ptr[0] < 4) {
    condval_1 = 0;
  } else {
    condval_1 = inverse_ptr[0];
  }
  inverse_ptr[0] = condval_1;
  for (int32_t k_2 = 0; k_2 < 3; ++k_2) {
    int32_t v__2 = zeros_ptr[0];
    int32_t v__3 = tinyml_rounding_right_shift(tinyml_multiply_q31(inverse_ptr[0], table[(largest_ptr[0] - ((int32_t)x[k_2]))]), (35 - ((v__2) > (4) ? (v__2) : (4))));
    output[k_2] = ((int8_t)(((v__3) < (255) ? (v__3) : (255)) - 128));
  }
}

int32_t tvmgen_small_run(const struct tvmgen_small_inputs *inputs, const struct tvmgen_small_outputs *outputs,
    const struct tvmgen_small_workspace_pools *pools) {
  if (inputs == NULL || outputs == NULL || pools == NULL) return TVMGEN_SMALL_ERROR_NULL;
  const void *const input_0 = inputs->input_0;
  void *const output_0 = outputs->output_0;
  int8_t *const sram = pools->sram;
  if (input_0 == NULL || output_0 == NULL || sram == NULL) return TVMGEN_SMALL_ERROR_NULL;
  if (((uintptr_t)sram & (TVMGEN_SMALL_SRAM_ALIGN - 1u)) != 0u) return TVMGEN_SMALL_ERROR_ALIGNMENT;
  tvmgen_small_pad2d_0(input_0, sram + 0);
  tvmgen_small_conv2d_0(sram + 0, tvmgen_small_constant_0, tvmgen_small_constant_1, tvmgen_small_constant_2, tvmgen_small_constant_3, sram + 144);
  tvmgen_small_pad2d_1(sram + 144, sram + 0);
  tvmgen_small_conv2d_add_0(sram + 0, tvmgen_small_constant_4, tvmgen_small_constant_5, tvmgen_small_constant_2, tvmgen_small_constant_6, sram + 144, sram + 144);
  tvmgen_small_avg_pool2d_0(sram + 144, sram + 0);
  tvmgen_small_dense_0(sram + 0, tvmgen_small_constant_7, tvmgen_small_constant_8, tvmgen_small_constant_9, tvmgen_small_constant_3, sram + 16);
  tvmgen_small_softmax_0(sram + 16, tvmgen_small_constant_10, output_0);
  return 0;
}
