/* base/check.h - what we believe, checked in every build.
 *
 * A broken invariant of ours stops the process with one clear line on stderr, then abort(). Never used for input from
 * outside, which gets an enum status. Depends on nothing.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stdint.h>

#define CHECK(condition)                                                                                           \
    do {                                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                                     \
            check_failed(__FILE__, __LINE__, #condition);                                                          \
    } while (0)

#define CHECK_EQ(left, right)                                                                                      \
    do {                                                                                                           \
        uint64_t check_left_ = (uint64_t)(left);                                                                   \
        uint64_t check_right_ = (uint64_t)(right);                                                                 \
        if (__builtin_expect(check_left_ != check_right_, 0))                                                      \
            check_failed_eq(__FILE__, __LINE__, #left " == " #right, check_left_, check_right_);                   \
    } while (0)

#define UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")

/* Prints "bug: FILE:LINE: TEXT" and aborts. */
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *text);

/* As check_failed, with both values. */
__attribute__((noreturn)) void check_failed_eq(const char *file, int line, const char *text, uint64_t left,
                                               uint64_t right);

#endif
