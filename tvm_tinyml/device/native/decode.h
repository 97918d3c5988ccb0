/* From the bits of an instruction to an operation, by tables of patterns. */
#ifndef TINYML_DECODE_H
#define TINYML_DECODE_H

#include "machine.h"

typedef struct {
    uint32_t code; /* a wide instruction has its first halfword on top */
    uint32_t address;
    int in_it, last_in_it;
} instruction_t;

/* Completes what the pattern gave: 0, or UNDEFINED, UNPREDICTABLE, UNSUPPORTED. */
typedef int form_fn(const instruction_t *i, operation_t *o);

/* One encoding. A pattern has 16 or 32 signs from the top bit on; spaces are for the eye.
 *
 *   0 1      the bit
 *   -        any bit; the form reads it
 *   d n m a  bits of that register of the operation; four of them, 13 and 15 are unpredictable
 *   D N M A  the same where 13 is allowed
 *   x y z    bits of d, n, m where every register is allowed
 *   i        bits of the immediate, which is then shifted left by ``scale``
 *   s k w    bits of amount, kind, width
 *
 * The first pattern of the tables that fits is the one. */
typedef struct {
    const char *pattern;
    run_fn *run;
    const char *name;
    form_fn *form;
    run_fn *in_it; /* runs instead inside of an IT block; NULL: the same */
    uint8_t scale;
    uint8_t it;   /* one of those below */
    uint8_t ends; /* the block */
    uint8_t moves_base; /* n, by any number of bytes */
} encoding_t;

enum { OTHER_PATTERN = -1 }; /* a form's answer: look further */

enum { ANYWHERE, NOT_IN_IT, LAST_IN_IT, UNCONDITIONAL };

#define RUN(function) .run = function, .name = #function

/* Tables end with an empty pattern. Of branches on a condition ``kind`` is the condition. */
extern const encoding_t armv6m[], armv7m[], armv8m[], dsp[];
extern const encoding_t float_move[], float_single[], float_single_v5[], float_double[], float_double_v5[];

typedef struct decoder decoder_t;

decoder_t *decoder_new(uint32_t features); /* NULL when there is no memory */
void decoder_free(decoder_t *decoder);

/* Returns the encoding, or NULL with an operation that is a fault. ``moves_stack``: it may write SP any number. */
const encoding_t *decode(const decoder_t *decoder, const instruction_t *i, int wide, operation_t *o, int *moves_stack);

const encoding_t *encoding_at(uint32_t index, uint32_t *features); /* NULL behind the last; features it needs */

run_fn refused; /* ends the run with status ``kind``; what is lacking is pattern number ``immediate`` */

const char *decoder_name(const decoder_t *decoder, uint32_t pattern);

static inline int is_wide(uint32_t halfword) { return halfword >> 11 >= 0x1d; }

static inline uint32_t bits(uint32_t code, int high, int low) { return code >> low & ((2u << (high - low)) - 1); }

static inline uint32_t sign_extend(uint32_t value, int width) {
    uint32_t sign = 1u << (width - 1);
    return (value ^ sign) - sign;
}

run_fn it; /* begins an IT block, which the block's builder reads out of its bits */

form_fn form_branch, form_branch_if, form_literal, form_shift, form_shifted, form_modified_immediate, form_long;

#endif
