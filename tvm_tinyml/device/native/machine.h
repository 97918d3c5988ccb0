/* A simulated Cortex-M: its state, and what an instruction is once it is decoded.
 *
 * Code runs as threaded code. A block of instructions is decoded once into a row of operations; each operation does its
 * work and calls the one behind it as its last act, which compilers turn into a jump. Where one does not, the depth of
 * the stack is still bounded by BLOCK_INSTRUCTIONS. The last operation of a block says where to go on in r[15] and
 * returns to the loop in run.c.
 */
#ifndef TINYML_MACHINE_H
#define TINYML_MACHINE_H

#include <stddef.h>
#include <stdint.h>

enum { SP = 13, LR = 14, PC = 15 };

enum { /* what the core has; a table of encodings belongs to each (decode.c) */
    ARMV6M = 1,
    ARMV7M = 2,
    DSP = 4,
    FP_SINGLE = 8,
    FP_DOUBLE = 16,
    FP_V5 = 32, /* VSEL, VMAXNM, VRINT and so on */
    ARMV8M = 64,
    ARMV81M = 128, /* low-overhead loops, selects */
    HELIUM = 256,
    HELIUM_FLOAT = 512,
    FP_HALF = 1024
};

enum { /* why a run ended, as in native_engine.py */
    RUNNING,
    RETURNED,
    BUDGET_SPENT,
    OUT_OF_MEMORY,
    READ_FAULT,
    WRITE_FAULT,
    READ_ONLY,
    NO_CODE,
    ARM_STATE,
    UNDEFINED,
    LACKING, /* the instruction exists on other cores */
    UNPREDICTABLE,
    UNSUPPORTED, /* legal, and not simulated: special registers, security states */
    FLOAT_MODE,
    BREAKPOINT,
    SERVICE,
    WAITING,
    MISALIGNED,
    MISALIGNED_WORDS
};

enum { HALFWORD_AT_ODD, WORD_AT_EVEN, WORD_AT_ODD, DATA_MISS, CODE_MISS, NEXT_CODE_MISS, EVENTS }; /* as in watch.py */

enum { BLOCK_INSTRUCTIONS = 512 };

typedef struct machine machine_t;
typedef struct operation operation_t;
typedef void run_fn(machine_t *m, const operation_t *o);

struct operation {
    run_fn *run;
    uint32_t immediate;
    uint32_t address;     /* of the instruction */
    uint8_t d, n, m, a;   /* registers: destination (or what a load or store transfers), first, second, third */
    uint8_t kind, amount; /* of a shift; of other instructions what their form says */
    uint8_t width;
    uint8_t size; /* bytes of the instruction */
};

typedef struct {
    uint32_t origin, size;
    uint8_t *bytes;
} region_t;

#include "lines.h"
#include "profile.h"

struct decoder;

struct machine {
    uint32_t r[16]; /* r[PC] is written by jumps only */
    uint32_t s[32]; /* of doubles the low word comes first */
    uint32_t negative, zero; /* words: N is the top bit of the first, Z says that the second is 0 */
    uint32_t carry, overflow, saturated; /* 0 or 1 */
    uint32_t greater_equal;              /* GE, 4 bits */
    uint32_t fpscr;   /* without the size of the tail */
    uint32_t ltpsize; /* log2 of the bytes of a lane in a loop with a tail, or 4 */
    uint32_t vpr;     /* P0 in the low half, above it two masks of 4 bits */
    uint32_t primask, faultmask, basepri;
    uint32_t exclusive, exclusive_address;

    region_t ram, flash, stack;
    uint64_t *events; /* of the block that runs */
    lines_t data, code;
    uint32_t watch_start, watch_size; /* the memory behind the buffers */
    uint32_t data_watch_size;         /* the same, or 0 when data is not watched */

    int status;
    uint32_t fault_pc, fault_address, fault_size;
    const char *fault_name; /* of a lacking instruction */

    uint32_t features;
    int check_alignment;
    uint32_t exit_address;
    uint64_t left; /* instructions of the budget */
    struct decoder *decoder;
    profile_t profile;
};

#define OPERATION(name) void name(machine_t *m, const operation_t *o)
#define NEXT o[1].run(m, o + 1)
#define R(field) m->r[o->field]

#if defined(__GNUC__)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define NEVER_INLINE __attribute__((noinline))
#else
#define UNLIKELY(condition) (condition)
#define NEVER_INLINE
#endif

/* Ends the run at this instruction; the caller then returns without NEXT. */
void fault(machine_t *m, const operation_t *o, int status);

static inline void set_nz(machine_t *m, uint32_t result) { m->negative = m->zero = result; }

uint32_t read_apsr(const machine_t *m);
void write_apsr(machine_t *m, uint32_t apsr, int flags, int greater_equal);

#endif
