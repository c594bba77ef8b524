/* exchange.pml: the protocol of an exchange, for SPIN: robust lock, odd versions, undo areas, slots that are claimed again.
 *
 * Workers commit two blocks to each of two stripes, in opposite orders; a newcomer takes the slot of who died or ended. Any of them may
 * be killed before any statement, at most DEATHS altogether, while it mends a stripe, too. One statement here is one store there. */
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef WORKERS
#define WORKERS 3 /* 2: no newcomer */
#endif
#define TORN 100
#define NOBODY 9
#define ODD(version) ((version) % 2)

byte owner[2] = NOBODY;      /* of the lock: a process; whether it lives is in dead[] */
byte holder[2] = NOBODY;     /* a slot: written by who has the lock */
byte version[2];
byte cell[5];                 /* two blocks a stripe: how many commits are in it */
bool mending[2];
byte next_version[2], next_lost[2], lost[2];
byte begun[2];               /* a ghost, as lost: commits that began, and those of which nothing is in */

byte area_stripe[2]; /* of each slot: index + 1 */
byte done[2], saved[2], copy[2];
byte slot_owner[2] = NOBODY;

bool dead[10], kill[3], ended[10]; /* up to NOBODY */
byte deaths;

/* One store of two halves of a word. */
inline progress(slot, in, open) {
#ifdef TWO_STORES
    done[slot] = in;
    saved[slot] = open
#else
    d_step { done[slot] = in; saved[slot] = open }
#endif
}

inline mend(s) {
    h = holder[s];
    its = false;
    if
    :: h != NOBODY && area_stripe[h] == s + 1 -> its = true
    :: else
    fi;
    if
    :: !mending[s] ->
        if
        :: its && saved[h] == 1 -> cell[2 * s + done[h]] = copy[h]
        :: else
        fi;
        if
        :: ODD(version[s]) && its && done[h] == 0 -> next_version[s] = version[s] - 1; next_lost[s] = lost[s] + 1
        :: ODD(version[s]) && its && done[h] > 0 -> next_version[s] = version[s] + 1; next_lost[s] = lost[s]
        :: ODD(version[s]) && !its -> assert(false) /* a commit that nobody can undo */
        :: else -> next_version[s] = version[s]; next_lost[s] = lost[s]
        fi;
        mending[s] = true
    :: else
    fi;
    version[s] = next_version[s];
    lost[s] = next_lost[s];
    if
    :: its -> area_stripe[h] = 0
    :: else
    fi;
    mending[s] = false
}

/* as: the slot that it becomes the holder for; NOBODY: who only comes by. */
inline acquire(s, as) {
    atomic {
        owner[s] == NOBODY || dead[owner[s]] -> orphaned = (owner[s] != NOBODY);
        owner[s] = index
    };
    if
    :: orphaned -> mend(s)
    :: else
    fi;
    holder[s] = as
}

inline settle(slot) {
#ifndef UNSETTLED
    found = area_stripe[slot];
    do
    :: found != 0 ->
        acquire((found - 1), NOBODY);
        owner[found - 1] = NOBODY;
        found = area_stripe[slot]
    :: else -> break
    od;
#endif
    skip
}

inline commit(s, slot) {
    acquire(s, slot);
    progress(slot, 0, 0);
    area_stripe[slot] = s + 1;
    d_step { version[s] = version[s] + 1; begun[s] = begun[s] + 1 };
    block = 0;
    do
    :: block < 2 ->
        copy[slot] = cell[2 * s + block];
        progress(slot, block, 1);
        cell[2 * s + block] = TORN;
        cell[2 * s + block] = copy[slot] + 1;
        progress(slot, block + 1, 0);
        block = block + 1
    :: else -> break
    od;
#ifdef LATE_VERSION
    owner[s] = NOBODY;
    version[s] = version[s] + 1;
    area_stripe[slot] = 0
#else
    version[s] = version[s] + 1;
    area_stripe[slot] = 0;
    owner[s] = NOBODY
#endif
}

proctype worker(byte index; byte first) {
    byte slot, h, found, block;
    bool its, orphaned;
    {
        /* A slot whose owner died or ended is free. */
        atomic {
            if
            :: slot_owner[0] == NOBODY || dead[slot_owner[0]] || ended[slot_owner[0]] -> slot = 0
            :: slot_owner[1] == NOBODY || dead[slot_owner[1]] || ended[slot_owner[1]] -> slot = 1
            fi;
            slot_owner[slot] = index
        };
        settle(slot);
        commit(first, slot);
        commit((1 - first), slot); /* inline: as it is written */
        ended[index] = true
    } unless {
        atomic { kill[index] && !ended[index] -> dead[index] = true }
    }
}

/* May kill any of them, at any time. */
proctype killer() {
    do
    :: deaths < DEATHS && !ended[0] && !kill[0] -> atomic { kill[0] = true; deaths++ }
    :: deaths < DEATHS && !ended[1] && !kill[1] -> atomic { kill[1] = true; deaths++ }
    :: deaths < DEATHS && !ended[2] && !kill[2] -> atomic { kill[2] = true; deaths++ }
    :: break
    od
}

init {
    byte s, h, looked;
    bool its, orphaned;
    atomic {
        run worker(0, 0);
        run worker(1, 1);
        if
        :: WORKERS == 3 -> run worker(2, 0)
        :: WORKERS < 3 -> ended[2] = true
        fi;
        run killer()
    };
    (ended[0] || dead[0]) && (ended[1] || dead[1]) && (ended[2] || dead[2]); /* where this blocks for ever, somebody waits for ever */
    do /* a last one comes by all stripes */
    :: looked < 2 ->
        if
        :: owner[looked] != NOBODY -> mend(looked); owner[looked] = NOBODY
        :: else
        fi;
        assert(!ODD(version[looked]));
        assert(cell[2 * looked] == version[looked] / 2);          /* one version for each commit that has a block in, and none else */
        assert(cell[2 * looked + 1] <= cell[2 * looked]);         /* whole blocks, from the first on: TORN is more than any */
        assert(version[looked] / 2 + lost[looked] <= begun[looked]);
        assert(cell[2 * looked] - cell[2 * looked + 1] <= deaths); /* a part is only left by a death */
        looked++
    :: else -> break
    od;
    assert(area_stripe[0] == 0 && area_stripe[1] == 0)
}
