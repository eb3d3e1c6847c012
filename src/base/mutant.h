/* base/mutant.h - planted bugs, one at a time, in the build of `make mutants` alone.
 *
 * MUTANT(n) is true where that build runs with mutant n chosen (mutant_choose), and the constant 0 everywhere else: it
 * leaves nothing in any other binary. spec/sim/mutants.lua says what each number breaks, and which the simulator must find.
 * Depends on nothing.
 */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

#ifdef MUTANTS
extern unsigned mutant_chosen;
#define MUTANT(n) (__builtin_expect(mutant_chosen == (n), 0))
/* 0: none. */
void mutant_choose(unsigned n);
#else
#define MUTANT(n) 0
#endif

#endif
