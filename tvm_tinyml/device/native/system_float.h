/* FPSCR and the registers beside it. */
#ifndef TINYML_SYSTEM_FLOAT_H
#define TINYML_SYSTEM_FLOAT_H

#include "machine.h"

enum { FPSCR = 1, FPSCR_NZCVQC = 2, VPR = 12, P0 = 13 };

uint32_t read_float_register(machine_t *m, int which);

/* Returns 0 after a fault. */
int write_float_register(machine_t *m, const operation_t *o, int which, uint32_t value);

#endif
