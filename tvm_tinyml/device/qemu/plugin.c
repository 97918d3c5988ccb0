/* Counts inside of QEMU what an EdgeProfile holds, and ends runs that spend their budget.
 *
 * The engine shares a file with the plugin. At its start lies control_t: what the engine asks for, and how the run
 * goes. When the program returns the plugin writes behind it, from RESULTS on, the blocks, the edges and the events.
 *
 * A run begins when the block at ``boot`` executes and ends when the one at ``exit`` does. A plugin cannot stop a
 * machine: it can only say in ``state`` that the engine should, and let time pass until it does. */
#include "plugin_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lines.h"

enum { READY, RUNNING, RETURNED, BUDGET_SPENT, STRAYED, WAITING };

/* What a watched run counts for each block; the order is that of Event in watch.py. */
enum { HALFWORD_AT_ODD, WORD_AT_EVEN, WORD_AT_ODD, DATA_MISS, CODE_MISS, NEXT_CODE_MISS, EVENTS };

enum { RESULTS = 4096, OUTSIDE = 0, LONGEST_BLOCK = 4096 };

typedef struct { /* the same as Control in counts.py */
    /* Written by the engine. */
    uint64_t left;                        /* instructions of the budget */
    uint32_t boot, exit;                  /* blocks of the engine's own code */
    uint32_t own_start, own_end;          /* all of the engine's own code and data */
    uint32_t code_start, code_end;        /* where a program's code lies */
    uint32_t forget;                      /* whether to translate everything anew: the code or what is watched changed */
    uint32_t watching, watch_alignment;
    uint32_t watch_start, watch_size;     /* the memory behind the buffers */
    uint32_t data_shift, data_lines, code_shift, code_lines;
    /* Written by the plugin. */
    volatile uint32_t state;
    uint32_t block_start;                 /* of the block that runs, or that the run ended in front of */
    uint32_t block_count, edge_count;
} control_t;

typedef struct {
    uint32_t start, size, instructions;
    uint32_t recent[2]; /* edges that leave it, the one used first or last in front */
} block_t;

typedef struct {
    uint32_t source, target; /* blocks */
    uint64_t count;
} edge_t;

static plugin_id_t plugin;
static int file;
static control_t *control;

static block_t *blocks; /* those translated; blocks[OUTSIDE] stands for the caller */
static uint32_t block_count, block_capacity;
static edge_t *edges; /* those of this run, in the order in which they were first taken; edges[0] is none */
static uint32_t edge_count, edge_capacity;
static uint64_t (*events)[EVENTS]; /* for each block */
static uint32_t current;           /* the block that runs */
static lines_t data, code;

/* --- memory -------------------------------------------------------------------------------------------------------- */

static void fail(const char *what) {
    fprintf(stderr, "the counting plugin failed: %s: %s\n", what, strerror(errno));
    abort();
}

static void *resized(void *array, size_t count, size_t size) {
    void *larger = realloc(array, count * size);
    if (!larger) fail("memory");
    return larger;
}

static void write_at(off_t offset, const void *bytes, size_t size) {
    while (size) {
        ssize_t written = pwrite(file, bytes, size, offset);
        if (written < 0 && errno != EINTR) fail("writing the counts");
        if (written < 0) continue;
        bytes = (const char *)bytes + written;
        size -= (size_t)written;
        offset += written;
    }
}

/* --- from a pair of numbers to an index ---------------------------------------------------------------------------- */

#define NO_KEY UINT64_MAX

typedef struct { /* open addressing */
    uint64_t *keys;
    uint32_t *values;
    size_t capacity, used;
} map_t;

static map_t block_of; /* start, size -> block */
static map_t edge_of;  /* source, target -> edge */

static uint64_t pair(uint32_t a, uint32_t b) { return (uint64_t)a << 32 | b; }

static void map_clear(map_t *m) {
    if (m->used) memset(m->keys, 0xff, m->capacity * sizeof *m->keys);
    m->used = 0;
}

static size_t map_slot(const map_t *m, uint64_t key) {
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    size_t slot = (size_t)(h ^ h >> 32) & (m->capacity - 1);
    while (m->keys[slot] != key && m->keys[slot] != NO_KEY) slot = (slot + 1) & (m->capacity - 1);
    return slot;
}

static void map_grow(map_t *m) {
    map_t old = *m;
    m->capacity = old.capacity ? 2 * old.capacity : 1024;
    m->keys = resized(NULL, m->capacity, sizeof *m->keys);
    m->values = resized(NULL, m->capacity, sizeof *m->values);
    memset(m->keys, 0xff, m->capacity * sizeof *m->keys);
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.keys[i] == NO_KEY) continue;
        size_t slot = map_slot(m, old.keys[i]);
        m->keys[slot] = old.keys[i];
        m->values[slot] = old.values[i];
    }
    free(old.keys);
    free(old.values);
}

/* The value of the key, ``fresh`` if it is new. */
static uint32_t map_value(map_t *m, uint64_t key, uint32_t fresh) {
    if (2 * m->used >= m->capacity) map_grow(m);
    size_t slot = map_slot(m, key);
    if (m->keys[slot] == NO_KEY) {
        m->keys[slot] = key;
        m->values[slot] = fresh;
        m->used++;
    }
    return m->values[slot];
}

/* --- counting ------------------------------------------------------------------------------------------------------ */

static uint32_t block_index(uint32_t start, uint32_t size, uint32_t instructions) {
    uint32_t index = map_value(&block_of, pair(start, size), block_count);
    if (index < block_count) return index;
    if (block_count == block_capacity) {
        block_capacity *= 2;
        blocks = resized(blocks, block_capacity, sizeof *blocks);
        events = resized(events, block_capacity, sizeof *events);
    }
    blocks[index] = (block_t){start, size, instructions, {0, 0}};
    memset(events[index], 0, sizeof events[index]);
    return block_count++;
}

static edge_t *other_edge(uint32_t source, uint32_t target) {
    uint32_t index = map_value(&edge_of, pair(source, target), edge_count);
    if (index == edge_count) {
        if (edge_count == edge_capacity) {
            edge_capacity *= 2;
            edges = resized(edges, edge_capacity, sizeof *edges);
        }
        edges[edge_count++] = (edge_t){source, target, 0};
    }
    uint32_t *recent = blocks[source].recent;
    recent[1] = recent[0];
    recent[0] = index;
    return &edges[index];
}

static void clear_counts(void) {
    for (uint32_t i = 1; i < edge_count; i++) memset(blocks[edges[i].source].recent, 0, sizeof blocks->recent);
    edge_count = 1;
    map_clear(&edge_of);
    memset(events, 0, block_count * sizeof *events);
    lines_clear(&data);
    lines_clear(&code);
    current = OUTSIDE;
}

/* The run is over. Time passes, so that little more happens until the engine stops the machine. */
static void end(uint32_t state, uint32_t block_start) {
    if (control->state == RUNNING) {
        control->block_start = block_start;
        control->left = 0;
        control->state = state;
    }
    nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void on_block(unsigned core, void *user) {
    uint32_t next = (uint32_t)(uintptr_t)user;
    const block_t *source = &blocks[current], *target = &blocks[next];
    (void)core;
    if (target->instructions > control->left) {
        end(BUDGET_SPENT, target->start);
        return;
    }
    control->left -= target->instructions;
    control->block_start = target->start;
    edge_t *e = &edges[source->recent[0]];
    if (e->target != next) e = &edges[source->recent[1]];
    if (e->target != next) e = other_edge(current, next);
    e->count++;
    current = next;
}

static int watched(uint32_t address) { return address - control->watch_start < control->watch_size; }

static void on_watched_block(unsigned core, void *user) {
    on_block(core, user);
    const block_t *b = &blocks[current];
    if (!code.capacity || !watched(b->start)) return;
    uint32_t last = (b->start + b->size - 1) >> code.shift;
    for (uint32_t line = b->start >> code.shift; line <= last; line++) {
        int result = lines_touch(&code, line);
        if (result != HIT) events[current][result == MISS ? CODE_MISS : NEXT_CODE_MISS]++;
    }
}

static void on_access(unsigned core, access_t access, uint64_t address, void *user) {
    uint64_t *counts = events[current];
    uint32_t size = 1u << qemu_plugin_mem_size_shift(access);
    uint32_t first = (uint32_t)address, last = first + size - 1;
    (void)core;
    (void)user;
    if (control->watch_alignment) {
        if (size == 2) counts[HALFWORD_AT_ODD] += first & 1;
        if (size >= 4 && first & 3) counts[first & 1 ? WORD_AT_ODD : WORD_AT_EVEN]++;
    }
    if (!data.capacity || !watched(first)) return;
    counts[DATA_MISS] += lines_touch(&data, first >> data.shift) != HIT;
    if (first >> data.shift != last >> data.shift) counts[DATA_MISS] += lines_touch(&data, last >> data.shift) != HIT;
}

/* --- beginning and end of a run ------------------------------------------------------------------------------------ */

static void on_idle(IDLE_PARAMETERS) {
#if QEMU_PLUGIN_API < 7
    (void)id;
#else
    (void)user;
#endif
    (void)core;
    if (control->state == RUNNING) control->state = WAITING;
}

static void on_stray(unsigned core, void *user) {
    (void)core;
    end(STRAYED, (uint32_t)(uintptr_t)user);
}

static void register_callbacks(void);

static void on_reset(RESET_PARAMETERS) {
#if QEMU_PLUGIN_API < 7
    (void)id;
#else
    (void)user;
#endif
    block_count = 1;
    map_clear(&block_of);
    register_callbacks();
}

static void on_boot(unsigned core, void *user) {
    (void)core;
    (void)user;
    if (control->forget) {
        const control_t *c = control;
        if (!lines_init(&data, c->watch_start, c->watch_size, LONGEST_BLOCK, c->data_shift, c->data_lines) ||
            !lines_init(&code, c->watch_start, c->watch_size, LONGEST_BLOCK, c->code_shift, c->code_lines))
            fail("memory");
    }
    clear_counts();
    control->state = RUNNING;
    if (control->forget) plugin_reset(plugin, on_reset); /* it is done before the next block executes */
    control->forget = 0;
}

static void on_exit_block(unsigned core, void *user) {
    (void)core;
    (void)user;
    size_t of_blocks = (block_count - 1) * sizeof *blocks, of_edges = (edge_count - 1) * sizeof *edges;
    write_at(RESULTS, blocks + 1, of_blocks);
    write_at(RESULTS + (off_t)of_blocks, edges + 1, of_edges);
    if (control->watching) write_at(RESULTS + (off_t)(of_blocks + of_edges), events + 1, (block_count - 1) * sizeof *events);
    control->block_count = block_count - 1;
    control->edge_count = edge_count - 1;
    if (control->state == RUNNING) control->state = RETURNED;
}

/* The first address behind an instruction. (QEMU's own size of it counts a halfword more where the translator has
 * looked at what follows, at the end of a page.) */
static uint32_t end_of(const struct qemu_plugin_insn *instruction) {
    uint8_t first[2];
    copy_code(instruction, first, sizeof first);
    return (uint32_t)qemu_plugin_insn_vaddr(instruction) + (first[1] >> 3 >= 0x1d ? 4 : 2);
}

static void on_translate(plugin_id_t id, struct qemu_plugin_tb *block) {
    uint32_t start = (uint32_t)qemu_plugin_tb_vaddr(block);
    size_t instructions = qemu_plugin_tb_n_insns(block);
    (void)id;
    if (start == control->boot) {
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_boot, NO_REGISTERS, NULL);
    } else if (start == control->exit) {
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_exit_block, NO_REGISTERS, NULL);
    } else if (start >= control->code_start && start < control->code_end) {
        uint32_t size = end_of(qemu_plugin_tb_get_insn(block, instructions - 1)) - start;
        void *user = (void *)(uintptr_t)block_index(start, size, (uint32_t)instructions);
        qemu_plugin_register_vcpu_tb_exec_cb(block, control->watching ? on_watched_block : on_block, NO_REGISTERS, user);
        if (!control->watching || (!control->watch_alignment && !control->data_lines)) return;
        for (size_t i = 0; i < instructions; i++) {
            struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
            qemu_plugin_register_vcpu_mem_cb(instruction, on_access, NO_REGISTERS, READS | WRITES, NULL);
        }
    } else if (start < control->own_start || start >= control->own_end) {
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_stray, NO_REGISTERS, (void *)(uintptr_t)start);
    }
}

static void register_callbacks(void) {
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, on_translate);
    plugin_on_idle(plugin, on_idle);
}

/* QEMU must not outlive the engine, however that ends: then its standard input ends, too. */
static void *wait_for_engine(void *nothing) {
    char byte;
    ssize_t size;
    do size = read(STDIN_FILENO, &byte, 1);
    while (size > 0 || (size < 0 && errno == EINTR));
    _exit(0);
    return nothing;
}

int qemu_plugin_version = QEMU_PLUGIN_API;

int qemu_plugin_install(plugin_id_t id, const void *info, int argc, char **argv) {
    pthread_t thread;
    (void)info;
    plugin = id;
    if (argc != 1 || sscanf(argv[0], "shared=%d", &file) != 1) return 1;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED) fail("mapping the shared file");
    if (pthread_create(&thread, NULL, wait_for_engine, NULL)) fail("starting a thread");
    block_capacity = edge_capacity = 512;
    blocks = resized(NULL, block_capacity, sizeof *blocks);
    events = resized(NULL, block_capacity, sizeof *events);
    edges = resized(NULL, edge_capacity, sizeof *edges);
    blocks[OUTSIDE] = (block_t){0};
    edges[0] = (edge_t){OUTSIDE, UINT32_MAX, 0};
    block_count = edge_count = 1;
    register_callbacks();
    return 0;
}
