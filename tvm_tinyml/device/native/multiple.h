/* Loads and stores of several registers. */
#ifndef TINYML_MULTIPLE_H
#define TINYML_MULTIPLE_H

#include "decode.h"

/* Of ``immediate``, a list with a bit for each register. kind: the base is written back; width: its address lies behind
 * the last word instead of on the first. */
run_fn ldm, ldm_pc, stm;

form_fn form_list; /* counts the registers; the list is there */

#endif
