/* Special registers. */
#ifndef TINYML_SPECIAL_H
#define TINYML_SPECIAL_H

#include "decode.h"

run_fn mrs, msr, cps;
form_fn form_mrs, form_msr, form_cps;

#endif
