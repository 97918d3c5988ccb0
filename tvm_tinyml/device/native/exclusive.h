/* Exclusive accesses, which Armv8-M has with more encodings. ``amount`` is the size in bytes. */
#ifndef TINYML_EXCLUSIVE_H
#define TINYML_EXCLUSIVE_H

#include "decode.h"

/* These accesses are aligned on every core. Returns 0 after a fault. */
int may_access_exclusively(machine_t *m, const operation_t *o, uint32_t address);

run_fn ldrex, strex;
form_fn form_byte, form_half, form_word;

#endif
