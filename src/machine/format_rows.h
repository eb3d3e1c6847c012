/* machine/format_rows.h - the format that is there without a module: canonical MessagePack rows. A row that expires has its
 * deadline, a whole number, before its key.
 *
 * A sequence of MessagePack values: for each map that has rows, in the order of mounts and maps, the list
 * [mount, map, count], then count times the key (bin: the bytes of state/key.h, in their order) and the value. In plain C and
 * without an allocation a row. The same shape as a module's two functions (script/format.h). Depends on script/format.h,
 * wire/pack.h.
 */
#ifndef MACHINE_FORMAT_ROWS_H
#define MACHINE_FORMAT_ROWS_H

#include "script/format.h"

#define FORMAT_ROWS_NAME "rows"

enum { FORMAT_ROWS_VERSION = 1 };

/* OK, or what append or row said. */
enum status format_rows_write(const struct format_writing *writing) MUST_USE;

/* OK; INVALID with `why`: the bytes make no sense, or a row has no place; else what next or put said. */
enum status format_rows_read(const struct format_reading *reading, struct buffer *why) MUST_USE;

#endif
