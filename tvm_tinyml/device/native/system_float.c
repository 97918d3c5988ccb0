#include "system_float.h"

#include <fenv.h>

#include "float.h"

#define NZCV 0xf0000000u
#define QC 0x08000000u
#define EXCEPTIONS 0x0000009fu
#define MODES 0x07c80000u /* alternative halves, default NaN, flush to zero, rounding */

uint32_t read_float_register(machine_t *m, int which) {
    switch (which) {
    case FPSCR:
        collect_exceptions(m);
        return m->fpscr | (m->features & HELIUM ? m->ltpsize << 16 : 0);
    case FPSCR_NZCVQC: return m->fpscr & (NZCV | QC);
    case P0: return m->vpr & 0xffff;
    default: return m->vpr;
    }
}

int write_float_register(machine_t *m, const operation_t *o, int which, uint32_t value) {
    uint32_t saturated = m->features & HELIUM ? QC : 0;
    switch (which) {
    case FPSCR:
        if (value & MODES) {
            fault(m, o, FLOAT_MODE);
            m->fault_address = value;
            return 0;
        }
        feclearexcept(FE_ALL_EXCEPT);
        m->fpscr = value & (NZCV | saturated | EXCEPTIONS);
        if (m->features & HELIUM) m->ltpsize = value >> 16 & 7;
        break;
    case FPSCR_NZCVQC: m->fpscr = (m->fpscr & ~(NZCV | saturated)) | (value & (NZCV | saturated)); break;
    case P0: m->vpr = (m->vpr & ~0xffffu) | (value & 0xffff); break;
    default: m->vpr = value & 0xffffff;
    }
    return 1;
}
