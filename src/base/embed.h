/* base/embed.h - the Lua (and later the page) that ships, inside the binary.
 *
 * The Makefile makes the table from everything under lua/. Depends on nothing.
 */
#ifndef BASE_EMBED_H
#define BASE_EMBED_H

struct embed_file {
    const char *path; /* "lua/cli/call.lua" */
    const unsigned char *data;
    unsigned long size;
};

extern const struct embed_file embed_files[];
extern const unsigned long embed_files_count;

#endif
