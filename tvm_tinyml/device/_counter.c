/* Counts the edges between translated blocks of a Unicorn machine, and stops it when a budget is spent.
 *
 * A Python callback for each block costs 50 times more than the emulation itself; this one costs next to nothing.
 * The functions are called through ctypes. The module is a Python extension only so that a wheel can carry it: it
 * uses no Python state and needs no Unicorn header (Unicorn's functions are handed in as pointers).
 *
 * A watched run counts also, with two more hooks, what memory adds to the time of an instruction: accesses that are not
 * aligned, and lines that the buffers in front of a slow memory do not hold.
 */
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

typedef int (*mem_read_fn)(void *machine, uint64_t address, void *bytes, uint64_t size);
typedef int (*reg_read_fn)(void *machine, int reg, void *value);
typedef int (*emu_stop_fn)(void *machine);

enum { RUNNING = 0, BUDGET_SPENT = 1, OUT_OF_MEMORY = 2, UNREADABLE = 3, MISALIGNED = 4 };

#define NONE UINT32_MAX
#define CACHED 2 /* a block that ends in a conditional branch has two successors */

typedef struct {
    uint32_t start, size, instructions;
    uint32_t next[CACHED]; /* blocks seen after this one, NONE when free */
    uint64_t count[CACHED];
} block_t;

typedef struct { /* an edge that found no place in its source block: returns and indirect branches */
    uint32_t source, target;
    uint64_t count; /* 0: the slot is free */
} edge_t;

/* What a watched run counts for each block; the order is that of Event in watch.py. */
enum { HALFWORD_AT_ODD, WORD_AT_EVEN, WORD_AT_ODD, DATA_MISS, CODE_MISS, NEXT_CODE_MISS, EVENTS };

enum { HIT, MISS, NEXT_MISS }; /* NEXT_MISS: the line behind the one touched last */

typedef struct { /* lines of a memory that a buffer holds */
    uint32_t line_shift, capacity, held;
    uint32_t *recent; /* the lines held, latest first */
} lines_t;

typedef struct {
    mem_read_fn mem_read;
    reg_read_fn reg_read;
    emu_stop_fn emu_stop;
    int pc_register;
    int state;
    uint32_t misaligned_address;
    uint64_t left; /* instructions of the budget */
    uint32_t current;
    block_t *blocks; /* blocks[0] stands for "outside": the source of the first edge */
    uint32_t block_count, block_capacity;
    uint32_t *slots; /* open addressing: hash of the start address -> block */
    uint32_t slot_mask;
    edge_t *edges; /* open addressing */
    uint32_t edge_count, edge_mask;
    uint64_t (*events)[EVENTS]; /* for each block; NULL unless runs are watched */
    int watch_alignment;
    uint32_t watch_start, watch_size; /* the memory behind the buffers */
    lines_t data, code;
} counter_t;

static uint32_t hash(uint32_t a, uint32_t b) {
    uint32_t h = (a ^ (b << 16 | b >> 16)) * 2654435761u;
    return h ^ h >> 15;
}

/* 16-bit units whose top five bits are 11101, 11110 or 11111 begin a 32-bit instruction. */
static int is_wide(uint32_t halfword) { return halfword >> 11 >= 0x1d; }

static int count_instructions(counter_t *c, void *machine, uint32_t start, uint32_t size, uint32_t *instructions) {
    uint8_t bytes[256];
    uint32_t in_chunk = 0, chunk_size = 0, n = 0, offset = 0;
    while (offset + 2 <= size) {
        if (offset < in_chunk || offset + 2 > in_chunk + chunk_size) {
            in_chunk = offset;
            chunk_size = size - offset < sizeof bytes ? size - offset : (uint32_t)sizeof bytes;
            if (c->mem_read(machine, (uint64_t)start + offset, bytes, chunk_size)) return 0;
        }
        uint32_t at = offset - in_chunk;
        offset += is_wide(bytes[at] | (uint32_t)bytes[at + 1] << 8) ? 4 : 2;
        n++;
    }
    *instructions = n;
    return 1;
}

static int grow_blocks(counter_t *c) {
    uint32_t capacity = c->block_capacity * 2;
    block_t *blocks = realloc(c->blocks, capacity * sizeof *blocks);
    if (!blocks) return 0;
    c->blocks = blocks;
    uint32_t *slots = malloc(2 * (size_t)capacity * sizeof *slots);
    if (!slots) return 0;
    free(c->slots);
    c->slots = slots;
    if (c->events) {
        uint64_t(*events)[EVENTS] = realloc(c->events, capacity * sizeof *events);
        if (!events) return 0;
        memset(events + c->block_capacity, 0, (capacity - c->block_capacity) * sizeof *events);
        c->events = events;
    }
    c->block_capacity = capacity;
    c->slot_mask = 2 * capacity - 1;
    memset(slots, 0xff, 2 * (size_t)capacity * sizeof *slots);
    for (uint32_t i = 1; i < c->block_count; i++) {
        uint32_t s = hash(blocks[i].start, blocks[i].size) & c->slot_mask;
        while (slots[s] != NONE) s = (s + 1) & c->slot_mask;
        slots[s] = i;
    }
    return 1;
}

/* The block with this start and size; a new one has its instructions counted once. NONE on failure. */
static uint32_t find_block(counter_t *c, void *machine, uint32_t start, uint32_t size) {
    uint32_t s = hash(start, size) & c->slot_mask;
    while (c->slots[s] != NONE) {
        const block_t *b = &c->blocks[c->slots[s]];
        if (b->start == start && b->size == size) return c->slots[s];
        s = (s + 1) & c->slot_mask;
    }
    if (c->block_count == c->block_capacity) {
        if (!grow_blocks(c)) {
            c->state = OUT_OF_MEMORY;
            return NONE;
        }
        s = hash(start, size) & c->slot_mask;
        while (c->slots[s] != NONE) s = (s + 1) & c->slot_mask;
    }
    block_t *b = &c->blocks[c->block_count];
    memset(b, 0, sizeof *b);
    b->start = start;
    b->size = size;
    b->next[0] = b->next[1] = NONE;
    if (!count_instructions(c, machine, start, size, &b->instructions)) {
        c->state = UNREADABLE;
        return NONE;
    }
    c->slots[s] = c->block_count;
    return c->block_count++;
}

static int grow_edges(counter_t *c) {
    uint32_t mask = c->edge_mask * 2 + 1;
    edge_t *edges = calloc((size_t)mask + 1, sizeof *edges);
    if (!edges) return 0;
    for (uint32_t i = 0; i <= c->edge_mask; i++) {
        if (!c->edges[i].count) continue;
        uint32_t s = hash(c->edges[i].source, c->edges[i].target) & mask;
        while (edges[s].count) s = (s + 1) & mask;
        edges[s] = c->edges[i];
    }
    free(c->edges);
    c->edges = edges;
    c->edge_mask = mask;
    return 1;
}

static int count_edge(counter_t *c, uint32_t source, uint32_t target) {
    block_t *b = &c->blocks[source];
    for (int i = 0; i < CACHED; i++) {
        if (b->next[i] == target) {
            b->count[i]++;
            return 1;
        }
        if (b->next[i] == NONE) {
            b->next[i] = target;
            b->count[i] = 1;
            return 1;
        }
    }
    if (2 * c->edge_count > c->edge_mask && !grow_edges(c)) {
        c->state = OUT_OF_MEMORY;
        return 0;
    }
    uint32_t s = hash(source, target) & c->edge_mask;
    while (c->edges[s].count && (c->edges[s].source != source || c->edges[s].target != target))
        s = (s + 1) & c->edge_mask;
    if (!c->edges[s].count) {
        c->edges[s].source = source;
        c->edges[s].target = target;
        c->edge_count++;
    }
    c->edges[s].count++;
    return 1;
}

/* UC_HOOK_BLOCK: called before each execution of a block. */
EXPORT void tinyml_counter_on_block(void *machine, uint64_t address, uint32_t size, void *user) {
    counter_t *c = user;
    uint32_t start = (uint32_t)address, target = NONE;
    if (c->state != RUNNING) { /* the machine has been told to stop */
        c->emu_stop(machine);
        return;
    }
    const block_t *current = &c->blocks[c->current];
    for (int i = 0; i < CACHED && current->next[i] != NONE; i++) {
        const block_t *b = &c->blocks[current->next[i]];
        if (b->start == start && b->size == size) {
            target = current->next[i];
            break;
        }
    }
    if (target == NONE) target = find_block(c, machine, start, size);
    if (target == NONE) {
        c->emu_stop(machine);
        return;
    }
    uint64_t instructions = c->blocks[target].instructions;
    if (instructions > c->left) {
        c->state = BUDGET_SPENT;
        c->emu_stop(machine);
        return;
    }
    if (!count_edge(c, c->current, target)) {
        c->emu_stop(machine);
        return;
    }
    c->left -= instructions;
    c->current = target;
}

/* UC_HOOK_MEM_READ and _WRITE: stops at an access that Unicorn performs and a Cortex-M refuses. Only single loads and
 * stores may be misaligned there; LDM, LDRD, VLDR and their kin need whole words. */
EXPORT void tinyml_counter_on_access(void *machine, int type, uint64_t address, int size, int64_t value, void *user) {
    counter_t *c = user;
    uint32_t pc = 0;
    uint8_t code[2];
    (void)type;
    (void)value;
    if (!(address & 3) || size < 4 || c->state != RUNNING) return;
    if (c->reg_read(machine, c->pc_register, &pc) || c->mem_read(machine, pc, code, 2)) return;
    uint32_t halfword = code[0] | (uint32_t)code[1] << 8;
    int single = is_wide(halfword) ? halfword >> 9 == 0x7c : halfword >> 12 >= 5 && halfword >> 12 <= 9;
    if (single) return;
    c->misaligned_address = (uint32_t)address;
    c->state = MISALIGNED;
    c->emu_stop(machine);
}

static int touch(lines_t *l, uint32_t address) {
    uint32_t line = address >> l->line_shift, i = 0;
    if (l->held && l->recent[0] == line) return HIT;
    while (i < l->held && l->recent[i] != line) i++;
    int found = i < l->held;
    int next = l->held && line == l->recent[0] + 1;
    if (!found && l->held < l->capacity) l->held++;
    if (i == l->capacity) i--; /* the line used longest ago gives way */
    memmove(l->recent + 1, l->recent, i * sizeof *l->recent);
    l->recent[0] = line;
    return found ? HIT : next ? NEXT_MISS : MISS;
}

static int watched(const counter_t *c, uint32_t address) { return address - c->watch_start < c->watch_size; }

/* UC_HOOK_MEM_READ and _WRITE of a watched run. */
EXPORT void tinyml_counter_watch_access(
    void *machine, int type, uint64_t address, int size, int64_t value, void *user) {
    counter_t *c = user;
    uint64_t *events = c->events[c->current];
    uint32_t first = (uint32_t)address, last = first + (uint32_t)size - 1;
    (void)machine;
    (void)type;
    (void)value;
    if (c->watch_alignment) {
        if (size == 2) events[HALFWORD_AT_ODD] += first & 1;
        if (size >= 4 && first & 3) events[first & 1 ? WORD_AT_ODD : WORD_AT_EVEN]++;
    }
    if (!c->data.capacity || !watched(c, first)) return;
    events[DATA_MISS] += touch(&c->data, first) != HIT;
    if (first >> c->data.line_shift != last >> c->data.line_shift) events[DATA_MISS] += touch(&c->data, last) != HIT;
}

/* UC_HOOK_BLOCK of a watched run, called after the one that counts. */
EXPORT void tinyml_counter_watch_block(void *machine, uint64_t address, uint32_t size, void *user) {
    counter_t *c = user;
    uint64_t *events = c->events[c->current];
    uint32_t start = (uint32_t)address, last = (start + size - 1) >> c->code.line_shift;
    (void)machine;
    if (!c->code.capacity || !watched(c, start)) return;
    for (uint32_t line = start >> c->code.line_shift; line <= last; line++) {
        int result = touch(&c->code, line << c->code.line_shift);
        if (result != HIT) events[result == MISS ? CODE_MISS : NEXT_CODE_MISS]++;
    }
}

static int set_lines(lines_t *l, uint32_t line_shift, uint32_t capacity) {
    uint32_t *recent = realloc(l->recent, (capacity + 1) * sizeof *recent);
    if (!recent) return 0;
    *l = (lines_t){line_shift, capacity, 0, recent};
    return 1;
}

/* Prepare for the two hooks above: memory behind buffers of so many lines (0: not counted) of 1 << shift bytes each.
 * Returns 0 when there is no memory. Counting starts with tinyml_counter_start. */
EXPORT int tinyml_counter_watch(void *counter, int alignment, uint32_t start, uint32_t size, uint32_t data_shift,
                                uint32_t data_lines, uint32_t code_shift, uint32_t code_lines) {
    counter_t *c = counter;
    c->watch_alignment = alignment;
    c->watch_start = start;
    c->watch_size = size;
    if (!c->events) c->events = calloc(c->block_capacity, sizeof *c->events);
    return c->events && set_lines(&c->data, data_shift, data_lines) && set_lines(&c->code, code_shift, code_lines);
}

EXPORT void tinyml_counter_unwatch(void *counter) {
    counter_t *c = counter;
    free(c->events);
    c->events = NULL;
}

EXPORT void tinyml_counter_free(void *counter) {
    counter_t *c = counter;
    if (!c) return;
    free(c->events);
    free(c->data.recent);
    free(c->code.recent);
    free(c->blocks);
    free(c->slots);
    free(c->edges);
    free(c);
}

EXPORT void *tinyml_counter_new(mem_read_fn mem_read, reg_read_fn reg_read, emu_stop_fn emu_stop, int pc_register) {
    counter_t *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->mem_read = mem_read;
    c->reg_read = reg_read;
    c->emu_stop = emu_stop;
    c->pc_register = pc_register;
    c->block_capacity = 512; /* grow_blocks doubles it */
    c->edge_mask = 1023;
    c->edges = calloc((size_t)c->edge_mask + 1, sizeof *c->edges);
    if (!c->edges || !grow_blocks(c)) {
        tinyml_counter_free(c);
        return NULL;
    }
    return c;
}

/* Forget all counts; the next run may execute this many instructions. */
EXPORT void tinyml_counter_start(void *counter, uint64_t budget) {
    counter_t *c = counter;
    memset(c->slots, 0xff, ((size_t)c->slot_mask + 1) * sizeof *c->slots);
    memset(c->edges, 0, ((size_t)c->edge_mask + 1) * sizeof *c->edges);
    memset(&c->blocks[0], 0, sizeof c->blocks[0]);
    c->blocks[0].next[0] = c->blocks[0].next[1] = NONE;
    c->block_count = 1;
    c->edge_count = 0;
    c->current = 0;
    c->left = budget;
    c->state = RUNNING;
    c->data.held = c->code.held = 0;
    if (c->events) memset(c->events, 0, c->block_capacity * sizeof *c->events);
}

EXPORT int tinyml_counter_state(const void *counter) { return ((const counter_t *)counter)->state; }

EXPORT uint32_t tinyml_counter_misaligned_address(const void *counter) {
    return ((const counter_t *)counter)->misaligned_address;
}

EXPORT uint32_t tinyml_counter_block_count(const void *counter) {
    return ((const counter_t *)counter)->block_count - 1;
}

EXPORT uint32_t tinyml_counter_edge_count(const void *counter) {
    const counter_t *c = counter;
    uint32_t n = c->edge_count;
    for (uint32_t i = 0; i < c->block_count; i++)
        for (int k = 0; k < CACHED; k++) n += c->blocks[i].next[k] != NONE;
    return n;
}

/* Arrays of block_count entries, in the order in which the blocks were first seen. */
EXPORT void tinyml_counter_blocks(const void *counter, uint32_t *start, uint32_t *size, uint32_t *instructions) {
    const counter_t *c = counter;
    for (uint32_t i = 1; i < c->block_count; i++) {
        start[i - 1] = c->blocks[i].start;
        size[i - 1] = c->blocks[i].size;
        instructions[i - 1] = c->blocks[i].instructions;
    }
}

/* Arrays of edge_count entries in no order; blocks by position, -1 for "outside". */
EXPORT void tinyml_counter_edges(const void *counter, int32_t *source, int32_t *target, uint64_t *count) {
    const counter_t *c = counter;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->block_count; i++)
        for (int k = 0; k < CACHED; k++)
            if (c->blocks[i].next[k] != NONE) {
                source[n] = (int32_t)i - 1;
                target[n] = (int32_t)c->blocks[i].next[k] - 1;
                count[n++] = c->blocks[i].count[k];
            }
    for (uint32_t s = 0; s <= c->edge_mask; s++)
        if (c->edges[s].count) {
            source[n] = (int32_t)c->edges[s].source - 1;
            target[n] = (int32_t)c->edges[s].target - 1;
            count[n++] = c->edges[s].count;
        }
}

/* block_count rows of EVENTS numbers, in the order of the blocks; only after a watched run. */
EXPORT void tinyml_counter_events(const void *counter, uint64_t *events) {
    const counter_t *c = counter;
    memcpy(events, c->events + 1, (c->block_count - 1) * sizeof *c->events);
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_counter", NULL, 0, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__counter(void) { return PyModule_Create(&definition); }
