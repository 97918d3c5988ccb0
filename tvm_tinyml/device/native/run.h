#ifndef TINYML_RUN_H
#define TINYML_RUN_H

#include "machine.h"

/* Call the function at ``entry``; it returns to the exit address. ``state`` holds r0 to r15, s0 to s31, APSR and FPSCR,
 * before and after. Returns a status. */
int run(machine_t *m, uint32_t entry, uint32_t *state, uint64_t budget);

#endif
