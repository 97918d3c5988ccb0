#include "profile.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash(uint32_t a, uint32_t b) {
    uint32_t h = (a ^ (b << 16 | b >> 16)) * 2654435761u;
    return h ^ h >> 15;
}

static void place(profile_t *p, uint32_t index) {
    uint32_t s = hash(p->blocks[index].start, 0) & p->slot_mask;
    while (p->slots[s] != OUTSIDE) s = (s + 1) & p->slot_mask;
    p->slots[s] = index;
}

static int grow_blocks(profile_t *p) {
    uint32_t capacity = p->block_capacity * 2;
    block_t *blocks = realloc(p->blocks, capacity * sizeof *blocks);
    if (!blocks) return 0;
    p->blocks = blocks;
    uint32_t *order = realloc(p->order, capacity * sizeof *order);
    if (!order) return 0;
    p->order = order;
    uint32_t *slots = calloc(2 * (size_t)capacity, sizeof *slots);
    if (!slots) return 0;
    free(p->slots);
    p->slots = slots;
    p->slot_mask = 2 * capacity - 1;
    p->block_capacity = capacity;
    for (uint32_t i = 1; i < p->block_count; i++) place(p, i);
    return 1;
}

static int grow_edges(profile_t *p) {
    uint32_t mask = p->edge_mask * 2 + 1;
    edge_t *edges = calloc((size_t)mask + 1, sizeof *edges);
    if (!edges) return 0;
    for (uint32_t i = 0; i <= p->edge_mask; i++) {
        if (!p->edges[i].count) continue;
        uint32_t s = hash(p->edges[i].source, p->edges[i].target) & mask;
        while (edges[s].count) s = (s + 1) & mask;
        edges[s] = p->edges[i];
    }
    free(p->edges);
    p->edges = edges;
    p->edge_mask = mask;
    return 1;
}

int profile_init(profile_t *p) {
    memset(p, 0, sizeof *p);
    p->block_count = 1;
    p->block_capacity = 256; /* grow_blocks doubles it */
    p->edge_mask = 255;
    p->edges = calloc((size_t)p->edge_mask + 1, sizeof *p->edges);
    if (!p->edges || !grow_blocks(p)) return 0;
    memset(&p->blocks[OUTSIDE], 0, sizeof *p->blocks);
    p->blocks[OUTSIDE].start = 1; /* no block starts at an odd address */
    return 1;
}

void profile_free(profile_t *p) {
    free(p->blocks);
    free(p->slots);
    free(p->order);
    free(p->edges);
    free(p->operations);
}

void profile_forget_code(profile_t *p) {
    profile_clear(p);
    if (p->block_count > 1) memset(p->slots, 0, ((size_t)p->slot_mask + 1) * sizeof *p->slots);
    p->block_count = 1;
    p->operation_count = 0;
}

void profile_clear(profile_t *p) {
    for (uint32_t i = 0; i < p->block_count; i++) {
        block_t *b = &p->blocks[i];
        b->position = NOT_RUN;
        b->next[0] = b->next[1] = OUTSIDE;
        b->count[0] = b->count[1] = 0;
        memset(b->events, 0, sizeof b->events);
    }
    p->run_count = 0;
    if (p->edge_count) memset(p->edges, 0, ((size_t)p->edge_mask + 1) * sizeof *p->edges);
    p->edge_count = 0;
}

uint32_t profile_find(const profile_t *p, uint32_t start) {
    uint32_t s = hash(start, 0) & p->slot_mask;
    while (p->slots[s] != OUTSIDE && p->blocks[p->slots[s]].start != start) s = (s + 1) & p->slot_mask;
    return p->slots[s];
}

uint32_t profile_add(profile_t *p, const block_t *block) {
    if (p->block_count == p->block_capacity && !grow_blocks(p)) return OUTSIDE;
    uint32_t index = p->block_count++;
    p->blocks[index] = *block;
    place(p, index);
    return index;
}

int profile_count(profile_t *p, uint32_t source, uint32_t target) {
    block_t *b = &p->blocks[source], *t = &p->blocks[target];
    if (t->position == NOT_RUN) {
        p->order[p->run_count] = target;
        t->position = ++p->run_count;
    }
    for (int i = 0; i < 2; i++)
        if (b->next[i] == OUTSIDE) {
            b->next[i] = target;
            b->count[i] = 1;
            return 1;
        }
    uint32_t s = hash(source, target) & p->edge_mask;
    while (p->edges[s].count && (p->edges[s].source != source || p->edges[s].target != target))
        s = (s + 1) & p->edge_mask;
    if (!p->edges[s].count) {
        if (p->edge_count * 2 > p->edge_mask) return grow_edges(p) && profile_count(p, source, target);
        p->edges[s].source = source;
        p->edges[s].target = target;
        p->edge_count++;
    }
    p->edges[s].count++;
    return 1;
}

uint32_t profile_edges(const profile_t *p, int32_t *source, int32_t *target, uint64_t *count) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->block_count; i++)
        for (int k = 0; k < 2; k++)
            if (p->blocks[i].count[k]) {
                if (source) {
                    source[n] = (int32_t)p->blocks[i].position - 1;
                    target[n] = (int32_t)p->blocks[p->blocks[i].next[k]].position - 1;
                    count[n] = p->blocks[i].count[k];
                }
                n++;
            }
    for (uint32_t s = 0; s <= p->edge_mask; s++)
        if (p->edges[s].count) {
            if (source) {
                source[n] = (int32_t)p->blocks[p->edges[s].source].position - 1;
                target[n] = (int32_t)p->blocks[p->edges[s].target].position - 1;
                count[n] = p->edges[s].count;
            }
            n++;
        }
    return n;
}
