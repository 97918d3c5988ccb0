/* The part of QEMU's plugin interface that plugin.c uses, so that no header of QEMU is needed.
 *
 * QEMU_PLUGIN_API is the version of the interface: plugin.py knows which QEMU has which. In what is declared here the
 * versions differ in two places, from 3 on and from 7 on.
 *
 * Source: QEMU's documentation of TCG plugins, "API". */
#ifndef TINYML_PLUGIN_API_H
#define TINYML_PLUGIN_API_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id_t;
typedef uint32_t access_t; /* describes an access to memory */
struct qemu_plugin_tb;     /* a block */
struct qemu_plugin_insn;   /* an instruction */

enum { NO_REGISTERS = 0 };       /* callbacks look at no register */
enum { READS = 1, WRITES = 2 };  /* accesses that a callback is called for */

typedef void translate_fn(plugin_id_t id, struct qemu_plugin_tb *block);
typedef void block_fn(unsigned core, void *user);
typedef void access_fn(unsigned core, access_t access, uint64_t address, void *user);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id_t id, translate_fn *callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, block_fn *callback, int flags, void *user);
void qemu_plugin_register_vcpu_mem_cb(
    struct qemu_plugin_insn *instruction, access_fn *callback, int flags, int kinds, void *user);

uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
unsigned qemu_plugin_mem_size_shift(access_t access);

/* Copy the first bytes of an instruction. */
#if QEMU_PLUGIN_API < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
#define copy_code(instruction, bytes, size) memcpy(bytes, qemu_plugin_insn_data(instruction), size)
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction, void *bytes, size_t size);
#define copy_code(instruction, bytes, size) qemu_plugin_insn_data(instruction, bytes, size)
#endif

/* Callbacks have user data from version 7 on. */
#if QEMU_PLUGIN_API < 7
#define RESET_PARAMETERS plugin_id_t id
#define IDLE_PARAMETERS plugin_id_t id, unsigned core
void qemu_plugin_reset(plugin_id_t id, void (*done)(RESET_PARAMETERS));
void qemu_plugin_register_vcpu_idle_cb(plugin_id_t id, void (*callback)(IDLE_PARAMETERS));
#define plugin_reset(id, done) qemu_plugin_reset(id, done)
#define plugin_on_idle(id, callback) qemu_plugin_register_vcpu_idle_cb(id, callback)
#else
#define RESET_PARAMETERS void *user
#define IDLE_PARAMETERS unsigned core, void *user
void qemu_plugin_reset(plugin_id_t id, void (*done)(RESET_PARAMETERS), void *user);
void qemu_plugin_register_vcpu_idle_cb(plugin_id_t id, void (*callback)(IDLE_PARAMETERS), void *user);
#define plugin_reset(id, done) qemu_plugin_reset(id, done, NULL)
#define plugin_on_idle(id, callback) qemu_plugin_register_vcpu_idle_cb(id, callback, NULL)
#endif

/* What the plugin defines. */
extern EXPORT int qemu_plugin_version;
EXPORT int qemu_plugin_install(plugin_id_t id, const void *info, int argc, char **argv);

#endif
