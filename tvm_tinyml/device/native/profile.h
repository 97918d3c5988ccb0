/* What a run counts: blocks, the edges between them, and events in each block. */
#ifndef TINYML_PROFILE_H
#define TINYML_PROFILE_H

#include <stdint.h>

enum { OUTSIDE = 0, NOT_RUN = 0 };

typedef struct {
    uint32_t start, size, instructions; /* size in bytes */
    uint32_t first;                     /* its operations begin there */
    uint32_t position;                  /* among the blocks of this run, from 1 on, or NOT_RUN */
    uint32_t next[2];                   /* blocks seen behind this one in this run; OUTSIDE: free */
    uint64_t count[2];
    uint64_t events[6];
} block_t;

typedef struct { /* an edge that found no place in its source: returns and jumps through tables */
    uint32_t source, target;
    uint64_t count; /* 0: the slot is free */
} edge_t;

typedef struct {
    block_t *blocks; /* blocks[OUTSIDE] stands for the caller */
    uint32_t block_count, block_capacity;
    uint32_t *slots; /* open addressing: start -> block, OUTSIDE when free */
    uint32_t slot_mask;
    uint32_t *order; /* blocks in the order in which they first ran, from 0 on */
    uint32_t run_count;
    edge_t *edges; /* open addressing */
    uint32_t edge_count, edge_mask;
    struct operation *operations;
    uint32_t operation_count, operation_capacity;
} profile_t;

int profile_init(profile_t *p); /* 0 when there is no memory, as below */
void profile_free(profile_t *p);
void profile_forget_code(profile_t *p);
void profile_clear(profile_t *p);

uint32_t profile_find(const profile_t *p, uint32_t start); /* OUTSIDE when it is not there */
uint32_t profile_add(profile_t *p, const block_t *block);  /* OUTSIDE when there is no memory */

/* Count an edge that the source does not know yet; blocks[source].next may know it from then on. */
int profile_count(profile_t *p, uint32_t source, uint32_t target);

uint32_t profile_edges(const profile_t *p, int32_t *source, int32_t *target, uint64_t *count); /* their number */

#endif
