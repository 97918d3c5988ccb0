/* What Python calls through ctypes. The module is a Python extension only so that a wheel can carry it. */
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "decode.h"
#include "memory.h"
#include "run.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

EXPORT void tinyml_machine_free(machine_t *m) {
    if (!m) return;
    profile_free(&m->profile);
    lines_free(&m->data);
    lines_free(&m->code);
    decoder_free(m->decoder);
    free(m);
}

/* Regions: flash, RAM and stack, of 4096 bytes at least; their bytes belong to the caller and outlive the machine. NULL
 * when there is no memory. */
EXPORT machine_t *tinyml_machine_new(
    uint32_t features, int check_alignment, uint32_t exit_address, const region_t *regions) {
    machine_t *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->features = features;
    m->check_alignment = check_alignment;
    m->exit_address = exit_address;
    m->flash = regions[0];
    m->ram = regions[1];
    m->stack = regions[2];
    m->decoder = decoder_new(features);
    if (profile_init(&m->profile) && m->decoder) return m;
    tinyml_machine_free(m);
    return NULL;
}

/* The caller has written into flash. */
EXPORT void tinyml_machine_forget_code(machine_t *m) { profile_forget_code(&m->profile); }

/* Watch a memory behind buffers of so many lines (0: not watched) of 1 << shift bytes. 0 when there is no memory. */
EXPORT int tinyml_machine_watch(machine_t *m, uint32_t start, uint32_t size, uint32_t data_shift, uint32_t data_lines,
                                uint32_t code_shift, uint32_t code_lines) {
    uint32_t slack = 4 * (BLOCK_INSTRUCTIONS + 8); /* a block may begin in it and end behind */
    m->watch_start = start;
    m->watch_size = size;
    m->data_watch_size = data_lines ? size : 0;
    return lines_init(&m->data, start, size, slack, data_shift, data_lines) &&
           lines_init(&m->code, start, size, slack, code_shift, code_lines);
}

/* See run.h. */
EXPORT int tinyml_machine_run(machine_t *m, uint32_t entry, uint32_t *state, uint64_t budget) {
    return run(m, entry, state, budget);
}

/* Where the last run ended with a fault: the instruction, the address it accessed, and how many bytes there. Returns
 * the name of an instruction that the core lacks, or NULL. */
EXPORT const char *tinyml_machine_fault(const machine_t *m, uint32_t *numbers) {
    numbers[0] = m->fault_pc;
    numbers[1] = m->fault_address;
    numbers[2] = m->fault_size;
    return m->fault_name;
}

EXPORT uint32_t tinyml_machine_block_count(const machine_t *m) { return m->profile.run_count; }

EXPORT uint32_t tinyml_machine_edge_count(const machine_t *m) { return profile_edges(&m->profile, NULL, NULL, NULL); }

/* Arrays of block_count entries, in the order in which the blocks first ran; of events EVENTS for each. */
EXPORT void tinyml_machine_blocks(
    const machine_t *m, uint32_t *start, uint32_t *size, uint32_t *instructions, uint64_t *events) {
    for (uint32_t i = 0; i < m->profile.run_count; i++) {
        const block_t *b = &m->profile.blocks[m->profile.order[i]];
        start[i] = b->start;
        size[i] = b->size;
        instructions[i] = b->instructions;
        memcpy(events + (size_t)i * EVENTS, b->events, sizeof b->events);
    }
}

/* Arrays of edge_count entries in no order; blocks by position, -1 for "outside". */
EXPORT void tinyml_machine_edges(const machine_t *m, int32_t *source, int32_t *target, uint64_t *count) {
    profile_edges(&m->profile, source, target, count);
}

/* The patterns of all instructions one after the other, NULL behind the last; see decode.h. */
EXPORT const char *tinyml_machine_pattern(uint32_t index, const char **name, uint32_t *features) {
    const encoding_t *e = encoding_at(index, features);
    if (e) *name = e->name;
    return e ? e->pattern : NULL;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_machine", NULL, 0, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__machine(void) { return PyModule_Create(&definition); }
