/* script/lexer.h - a look at source text before LuaJIT's parser may see it: what replicated code must not use.
 *
 * Depends on base.
 */
#ifndef SCRIPT_LEXER_H
#define SCRIPT_LEXER_H

#include "base/slice.h"
#include "base/status.h"

/* Walks the tokens. OK; or INVALID with lines "NAME:LINE: what; what to do". `required`, if not NULL, is called for each
 * literal name in require 'name'. */
enum status lexer_check(struct slice source, const char *name, struct buffer *why,
                        void (*required)(void *context, struct slice module, unsigned line),
                        void *context) MUST_USE;

/* The same for a scenario script (script/scene.h): it may use any name, what is not there shows when it runs. */
enum status lexer_check_script(struct slice source, const char *name, struct buffer *why) MUST_USE;

#endif
