/* The loop that goes from block to block, and how a run ends. */
#include "run.h"

#include <fenv.h>
#include <string.h>

#include "blocks.h"
#include "decode.h"
#include "float.h"

void fault(machine_t *m, const operation_t *o, int status) {
    m->status = status;
    m->fault_pc = o->address;
}

OPERATION(refused) {
    fault(m, o, o->kind);
    if (o->kind == LACKING) m->fault_name = decoder_name(m->decoder, o->immediate);
}

/* The block behind the current one, counted; OUTSIDE when the run ends here. */
static NEVER_INLINE uint32_t go_on(machine_t *m, uint32_t current, uint32_t target) {
    profile_t *p = &m->profile;
    if (target == m->exit_address) {
        m->status = RETURNED;
        return OUTSIDE;
    }
    uint32_t next = profile_find(p, target);
    if (next == OUTSIDE) next = build_block(m, target);
    if (next == OUTSIDE) {
        m->fault_pc = target;
        return OUTSIDE;
    }
    if (p->blocks[next].instructions > m->left) {
        m->status = BUDGET_SPENT;
        m->fault_pc = target;
        return OUTSIDE;
    }
    if (!profile_count(p, current, next)) m->status = OUT_OF_MEMORY;
    return next;
}

static void watch_code(machine_t *m, const block_t *b) {
    if (b->start - m->watch_start >= m->watch_size) return;
    uint32_t last = (b->start + b->size - 1) >> m->code.shift;
    for (uint32_t line = b->start >> m->code.shift; line <= last; line++) {
        int result = lines_touch(&m->code, line);
        if (result != HIT) m->events[result == MISS ? CODE_MISS : NEXT_CODE_MISS]++;
    }
}

static void run_blocks(machine_t *m) {
    uint32_t current = OUTSIDE;
    for (;;) {
        uint32_t target = m->r[PC], next;
        block_t *blocks = m->profile.blocks, *b = &blocks[current];
        int way = blocks[b->next[0]].start == target ? 0 : blocks[b->next[1]].start == target ? 1 : 2;
        if (way < 2) {
            next = b->next[way];
            if (blocks[next].instructions > m->left) {
                m->status = BUDGET_SPENT;
                m->fault_pc = target;
                return;
            }
            b->count[way]++;
        } else {
            next = go_on(m, current, target);
            if (m->status != RUNNING) return;
            blocks = m->profile.blocks;
        }
        b = &blocks[next];
        m->left -= b->instructions;
        m->events = b->events;
        current = next;
        if (m->code.capacity) watch_code(m, b);
        const operation_t *first = m->profile.operations + b->first;
        first->run(m, first);
        if (m->status != RUNNING) return;
    }
}

int run(machine_t *m, uint32_t entry, uint32_t *state, uint64_t budget) {
    fenv_t host;
    profile_clear(&m->profile);
    lines_clear(&m->data);
    lines_clear(&m->code);
    memcpy(m->r, state, sizeof m->r);
    memcpy(m->s, state + 16, sizeof m->s);
    write_apsr(m, state[48], 1, 1);
    m->fpscr = state[49];
    m->ltpsize = 4;
    m->vpr = 0;
    m->primask = m->faultmask = m->basepri = m->exclusive = 0;
    m->status = RUNNING;
    m->fault_name = NULL;
    m->left = budget;
    m->r[PC] = entry & ~1u;
    /* Another library may have changed how the host rounds. Its exception flags collect those of the program. */
    fegetenv(&host);
    fesetenv(FE_DFL_ENV);
    run_blocks(m);
    collect_exceptions(m);
    fesetenv(&host);
    memcpy(state, m->r, sizeof m->r);
    memcpy(state + 16, m->s, sizeof m->s);
    state[48] = read_apsr(m);
    state[49] = m->fpscr;
    return m->status;
}
