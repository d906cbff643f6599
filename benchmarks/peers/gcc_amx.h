/* For the build of llama.cpp, included before everything else.
 *
 * GCC's _tile_loadconfig tells the compiler that it reads 8 bytes, where it reads 64, so that GCC
 * leaves out the stores to the others (seen with 12.2); llama.cpp's AMX code then crashes. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) \
    __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif
