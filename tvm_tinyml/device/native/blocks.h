#ifndef TINYML_BLOCKS_H
#define TINYML_BLOCKS_H

#include "machine.h"

/* Returns the block that begins there, or OUTSIDE with a status. */
uint32_t build_block(machine_t *m, uint32_t start);

#endif
