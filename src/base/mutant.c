/* base/mutant.c - see base/mutant.h. */
#include "base/mutant.h"

#ifdef MUTANTS
unsigned mutant_chosen;

void mutant_choose(unsigned n)
{
    mutant_chosen = n;
}
#else
typedef int mutant_nothing; /* a file of C holds something */
#endif
