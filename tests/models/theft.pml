/* Slabs of a leased cache go to a thief: cache.hpp (steal_from), slow_frees.hpp (free_into).
 *
 *   proctype lessee    frees blocks of one slab: its fast path, which the slab's owner lets in, and at
 *                      times the end of the countdown, which the slow path deals with; else the slow path
 *   proctype thief     makes the cache busy if it is not, takes the slab's owner away, looks whether
 *                      the lessee is in a slab, and takes the slab or gives the owner back
 *
 * One step of the model is one access to memory that others see; order is sequential consistency, which a
 * barrier on all threads gives between the store and the load of either side.
 *
 * Proved: nobody is in the slab with another; who is in there as its home, is; no end of a countdown is
 * lost; no deadlock.
 *
 * Mutations, each of which must be an error:
 *   NO_VISIT          the lessee does not say that it is in a slab
 *   NO_SECOND_LOOK    it does not look at the owner again once it has said so
 *   NOT_BUSY          the thief does not keep it from its slow paths
 *   OWNER_STAYS       the thief does not take the owner away first
 *   ENDED_TOO         the thief takes a slab whose countdown has ended, too
 */
#define LESSEE 0
#define THIEF 1
#define NOBODY 2
#define FREES 3

byte home = LESSEE;
byte owner = LESSEE;
bit busy;
bit visiting;
bit ended; /* the slab's countdown is 0 */
byte inside;
byte finished;

inline use_slab()
{
    atomic { inside++; assert(inside == 1) }
    inside--
}

/* try_begin() */
inline begin()
{
    do
    :: atomic { busy == 0 -> busy = 1; break }
    od
}

inline slow_free()
{
    begin();
    if
    :: home == LESSEE -> use_slab()
    :: else /* to its outbox */
    fi;
    busy = 0
}

proctype lessee()
{
    byte i;
    for (i : 1 .. FREES) {
        if
        :: owner == LESSEE ->
#ifndef NO_VISIT
            visiting = 1;
#endif
            if
#ifdef NO_SECOND_LOOK
            :: true ->
#else
            :: owner == LESSEE ->
#endif
                use_slab();
                if
                :: ended = 1
                :: true
                fi;
                visiting = 0;
                if
                :: ended ->
                    begin();
                    assert(home == LESSEE && ended);
                    use_slab();
                    ended = 0;
                    busy = 0
                :: else
                fi
#ifndef NO_SECOND_LOOK
            :: else ->
                visiting = 0;
                slow_free()
#endif
            fi
        :: else -> slow_free()
        fi
    }
    atomic { i = 0; finished++ }
}

proctype thief()
{
    bit was_busy;
    bit there;
#ifndef NOT_BUSY
    atomic { was_busy = busy; busy = 1 }
#endif
    if
    :: was_busy
    :: else ->
        if
        :: home == LESSEE ->
#ifndef OWNER_STAYS
            owner = NOBODY;
#endif
            there = visiting;
            if
#ifdef ENDED_TOO
            :: !there ->
#else
            :: !there && !ended ->
#endif
                use_slab(); /* out of the old list */
                home = THIEF;
                owner = THIEF;
            :: else -> owner = LESSEE
            fi
        :: else
        fi;
#ifndef NOT_BUSY
        busy = 0
#endif
    fi;
    if
    :: home == THIEF -> use_slab()
    :: else
    fi;
    atomic { was_busy = 0; there = 0; finished++ }
}

init {
    atomic { run lessee(); run thief() }
    finished == 2;
    assert(!busy && !visiting && !ended)
}

ltl gets_on { <> (finished == 2) }
