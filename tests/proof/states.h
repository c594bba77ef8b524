/* states.h: how many different states there were: at least so many, for two may have one number. */
#ifndef DKCORE_STATES_H
#define DKCORE_STATES_H

#include <stdint.h>

enum { STATE_BITS = 23 };
static unsigned char seen[1 << (STATE_BITS - 3)];
static uint64_t states;

static inline uint64_t mixed(uint64_t hash, uint64_t part) { return (hash ^ part) * 0x9e3779b97f4a7c15ull + (hash >> 29); }

static inline void note(uint64_t hash) {
    uint64_t place = (hash ^ hash >> 32) % (1u << STATE_BITS);
    states += !(seen[place / 8] >> place % 8 & 1);
    seen[place / 8] |= (unsigned char)(1 << place % 8);
}

#endif
