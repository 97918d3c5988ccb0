#include "decode.h"

#include <stdlib.h>
#include <string.h>

#include "vector.h"

static const struct {
    const encoding_t *encodings;
    uint32_t needs;
} tables[] = {
    {armv6m, ARMV6M},
    {armv81m, ARMV81M},
    {helium_integer, HELIUM},
    {armv8m, ARMV8M},
    {armv7m, ARMV7M},
    {dsp, DSP},
    {float_move, FP_SINGLE},
    {float_single, FP_SINGLE},
    {float_single_v5, FP_SINGLE | FP_V5},
    {float_double, FP_DOUBLE},
    {float_double_v5, FP_DOUBLE | FP_V5},
    {float_system, ARMV81M | FP_SINGLE},
    {float_half, FP_HALF},
    {helium_memory, HELIUM},
    {helium_lanes, HELIUM},
    {helium_shift, HELIUM},
    {helium_multiply, HELIUM},
    {helium_predicate, HELIUM},
    {helium_move, HELIUM},
    {helium_float, HELIUM_FLOAT},
};

enum { TABLES = sizeof tables / sizeof *tables, SEGMENTS = 12, NARROW_BUCKETS = 256, BUCKETS = NARROW_BUCKETS + 512 };

typedef struct { /* bits of a field that lie together */
    uint8_t letter, low, width;
} segment_t;

typedef struct {
    const encoding_t *encoding;
    uint32_t mask, value;
    int available; /* the core has it */
    int may_write_sp;
    int wide;
    int segment_count;
    segment_t segments[SEGMENTS]; /* of one letter behind each other, from the top bits down */
} pattern_t;

struct decoder {
    pattern_t *patterns;
    uint16_t *in_bucket; /* indices of patterns, for one bucket after the other */
    uint32_t bucket_start[BUCKETS + 1];
};

/* Puts a bit behind those of the same letter. */
static void add_bit(pattern_t *pattern, char letter, int position) {
    int at = pattern->segment_count;
    while (at && pattern->segments[at - 1].letter != (uint8_t)letter) at--;
    if (at && pattern->segments[at - 1].low == position + 1) {
        pattern->segments[at - 1].low--;
        pattern->segments[at - 1].width++;
        return;
    }
    if (!at) at = pattern->segment_count;
    memmove(pattern->segments + at + 1, pattern->segments + at, (pattern->segment_count - at) * sizeof(segment_t));
    pattern->segments[at] = (segment_t){(uint8_t)letter, (uint8_t)position, 1};
    pattern->segment_count++;
}

/* Returns the number of bits. */
static int parse(const char *text, pattern_t *pattern) {
    int length = 0;
    for (const char *c = text; *c; c++) length += *c != ' ';
    int position = length;
    for (const char *c = text; *c; c++) {
        if (*c == ' ') continue;
        position--;
        if (*c == '0' || *c == '1') {
            pattern->mask |= 1u << position;
            pattern->value |= (uint32_t)(*c == '1') << position;
        } else if (*c != '-') {
            add_bit(pattern, *c, position);
            if (*c == 'D' || *c == 'x') pattern->may_write_sp = 1;
        }
    }
    return length;
}

static uint32_t bucket_bits(uint32_t code, int wide) { return wide ? bits(code, 28, 20) : bits(code, 15, 8); }

/* Count a pattern in each bucket that its instructions fall into, or put it there once all are counted. */
static void enter(decoder_t *decoder, uint32_t index, int counting) {
    const pattern_t *pattern = &decoder->patterns[index];
    uint32_t all = pattern->wide ? 511 : 255, free_bits = all & ~bucket_bits(pattern->mask, pattern->wide);
    uint32_t value = bucket_bits(pattern->value, pattern->wide), chosen = free_bits;
    for (;;) {
        uint32_t *start = &decoder->bucket_start[(pattern->wide ? NARROW_BUCKETS : 0) + (value | chosen)];
        if (!counting) decoder->in_bucket[*start] = (uint16_t)index;
        (*start)++;
        if (!chosen) return;
        chosen = (chosen - 1) & free_bits;
    }
}

void decoder_free(decoder_t *decoder) {
    if (!decoder) return;
    free(decoder->patterns);
    free(decoder->in_bucket);
    free(decoder);
}

decoder_t *decoder_new(uint32_t features) {
    uint32_t count = 0, listed = 0;
    for (int t = 0; t < TABLES; t++)
        for (const encoding_t *e = tables[t].encodings; *e->pattern; e++) count++;
    decoder_t *decoder = calloc(1, sizeof *decoder);
    if (!decoder) return NULL;
    decoder->patterns = calloc(count, sizeof *decoder->patterns);
    if (!decoder->patterns) goto failed;
    count = 0;
    /* What the core lacks comes last: it is only looked at to tell what an instruction would be elsewhere. */
    for (int available = 1; available >= 0; available--)
        for (int t = 0; t < TABLES; t++) {
            if (((features & tables[t].needs) == tables[t].needs) != available) continue;
            for (const encoding_t *e = tables[t].encodings; *e->pattern; e++) {
                pattern_t *pattern = &decoder->patterns[count++];
                pattern->encoding = e;
                pattern->available = available;
                pattern->wide = parse(e->pattern, pattern) == 32;
            }
        }
    for (uint32_t p = 0; p < count; p++) enter(decoder, p, 1);
    for (uint32_t b = 0; b < BUCKETS; b++) { /* from the number in each to where they begin */
        uint32_t size = decoder->bucket_start[b];
        decoder->bucket_start[b] = listed;
        listed += size;
    }
    decoder->in_bucket = malloc(listed * sizeof *decoder->in_bucket);
    if (!decoder->in_bucket) goto failed;
    for (uint32_t p = 0; p < count; p++) enter(decoder, p, 0);
    /* Each start has moved to the end of its bucket, which is where the next one begins. */
    memmove(decoder->bucket_start + 1, decoder->bucket_start, BUCKETS * sizeof *decoder->bucket_start);
    decoder->bucket_start[0] = 0;
    return decoder;
failed:
    decoder_free(decoder);
    return NULL;
}

static int set_field(operation_t *o, char letter, uint32_t value, uint32_t width) {
    switch (letter) {
    case 'd': case 'D': case 'x': o->d = (uint8_t)value; break;
    case 'n': case 'N': case 'y': o->n = (uint8_t)value; break;
    case 'm': case 'M': case 'z': o->m = (uint8_t)value; break;
    case 'a': case 'A': o->a = (uint8_t)value; break;
    case 'i': o->immediate = value; return 0;
    case 's': o->amount = (uint8_t)value; return 0;
    case 'k': o->kind = (uint8_t)value; return 0;
    default: o->width = (uint8_t)value; return 0;
    }
    if (width < 4 || letter >= 'x') return 0;
    return value == PC || (value == SP && letter >= 'a') ? UNPREDICTABLE : 0;
}

static int fill(const pattern_t *pattern, const instruction_t *i, operation_t *o) {
    int status = 0;
    for (const segment_t *s = pattern->segments, *end = s + pattern->segment_count; s != end;) {
        char letter = (char)s->letter;
        uint32_t value = 0, width = 0;
        for (; s != end && s->letter == (uint8_t)letter; s++) {
            value = value << s->width | (i->code >> s->low & ((1u << s->width) - 1));
            width += s->width;
        }
        int field_status = set_field(o, letter, value, width);
        if (field_status) status = field_status;
    }
    o->immediate <<= pattern->encoding->scale;
    return status;
}

const encoding_t *decode(const decoder_t *decoder, const instruction_t *i, int wide, operation_t *o, int *moves_stack) {
    uint32_t bucket = (wide ? NARROW_BUCKETS : 0) + bucket_bits(i->code, wide);
    int status = UNDEFINED;
    *moves_stack = 0;
    *o = (operation_t){.address = i->address, .size = wide ? 4 : 2};
    for (uint32_t b = decoder->bucket_start[bucket]; b < decoder->bucket_start[bucket + 1]; b++) {
        const pattern_t *pattern = &decoder->patterns[decoder->in_bucket[b]];
        if ((i->code & pattern->mask) != pattern->value) continue;
        const encoding_t *e = pattern->encoding;
        *o = (operation_t){.address = i->address, .size = wide ? 4 : 2};
        if (!pattern->available) {
            status = LACKING;
            o->immediate = decoder->in_bucket[b]; /* for its name */
            break;
        }
        o->run = i->in_it && e->in_it ? e->in_it : e->run;
        status = fill(pattern, i, o);
        int form_status = e->form ? e->form(i, o) : 0;
        if (form_status == OTHER_PATTERN) {
            status = UNDEFINED;
            continue;
        }
        if (!status) status = form_status;
        if (!status && i->in_it && (e->it == NOT_IN_IT || (e->it == LAST_IN_IT && !i->last_in_it)))
            status = UNPREDICTABLE;
        *moves_stack = (pattern->may_write_sp && o->d == SP) || (e->moves_base && o->n == SP);
        if (!status) return e;
        break;
    }
    o->run = refused;
    o->kind = (uint8_t)status;
    return NULL;
}

const encoding_t *encoding_at(uint32_t index, uint32_t *features) {
    for (int t = 0; t < TABLES; t++)
        for (const encoding_t *e = tables[t].encodings; *e->pattern; e++)
            if (!index--) {
                *features = tables[t].needs;
                return e;
            }
    return NULL;
}

const char *decoder_name(const decoder_t *decoder, uint32_t pattern) {
    return decoder->patterns[pattern].encoding->name;
}
