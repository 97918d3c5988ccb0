/* Counts the edges between translated blocks of a Unicorn machine, and stops it when a budget is spent.
 *
 * A Python callback for each block costs 50 times more than the emulation itself; this one costs next to nothing.
 * The functions are called through ctypes. The module is a Python extension only so that a wheel can carry it: it
 * uses no Python state and needs no Unicorn header (Unicorn's functions are handed in as pointers).
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

EXPORT void tinyml_counter_free(void *counter) {
    counter_t *c = counter;
    if (!c) return;
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

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_counter", NULL, 0, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__counter(void) { return PyModule_Create(&definition); }
