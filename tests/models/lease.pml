/* Leases of caches: cache_pool.hpp, spinlock.hpp.
 *
 *   proctype user      a thread: acquire_lease() [load, fetch_and, lock()], some use, end_lease()
 *                      [flush_all(), unlock(), fetch_or]; without a lease lock_shared(): the first
 *                      cache that try_lock() gets, else lock() of one
 *   proctype visitor   each_idle_cache() and outbox flushes: try_lock(), a look inside, unlock()
 *
 * One step of the model is one access to memory that others see; order is sequential consistency,
 * which acquire and release give for data behind a lock.
 *
 * Proved: nobody is in a cache with another; a lease is nobody else's, so that who wins a bit waits
 * in lock() only for a visitor; no deadlock; at the end every lock is free and every lease too.
 *
 * Mutations, each of which must be an error:
 *   LOAD_THEN_STORE_BIT    the bit is taken by a load and a store
 *   LOAD_THEN_STORE_LOCK   try_lock() is a load and a store
 *   UNLOCK_BEFORE_FLUSH    end_lease() unlocks, then empties its outboxes
 *   NO_LOCK_OF_LEASE       the bit alone makes the lease
 *   LEASE_LOST             end_lease() does not give the bit back
 */
#define LEASABLE 1
#define CACHES 2 /* the last is shared */
#define USERS 3

bit free_lease[LEASABLE]; /* the bits of free_leases_ */
bit held[CACHES];         /* spinlock::held_ */
byte inside[CACHES];      /* who uses its lists and outboxes */
bit leased[LEASABLE];
byte finished;

#ifdef LOAD_THEN_STORE_LOCK
#define TRY_LOCK(c) before = held[c]; if :: before == 0 -> held[c] = 1 :: else fi
#else
#define TRY_LOCK(c) atomic { before = held[c]; held[c] = 1 }
#endif
#define UNLOCK(c) held[c] = 0

inline lock(c)
{
    do
    :: held[c] == 0 -> TRY_LOCK(c); if :: before == 0 -> break :: else fi
    od
}

inline use(c)
{
    atomic { inside[c]++; assert(inside[c] == 1) }
    inside[c]--
}

proctype user()
{
    byte i, own;
    bit before;
    own = CACHES;
    i = 0;
    do
    :: i == LEASABLE -> break
    :: i < LEASABLE && free_lease[i] == 0 -> i++
    :: i < LEASABLE && free_lease[i] == 1 -> /* this load, then: */
#ifdef LOAD_THEN_STORE_BIT
        before = free_lease[i];
        free_lease[i] = 0;
#else
        atomic { before = free_lease[i]; free_lease[i] = 0 }
#endif
        if
        :: before == 1 -> own = i; break
        :: else -> i = 0
        fi
    od;
    if
    :: own < CACHES ->
        assert(leased[own] == 0);
        leased[own] = 1;
#ifndef NO_LOCK_OF_LEASE
        lock(own);
#endif
        use(own);
#ifndef UNLOCK_BEFORE_FLUSH
        use(own);
#endif
        leased[own] = 0;
        UNLOCK(own);
#ifdef UNLOCK_BEFORE_FLUSH
        use(own);
#endif
#ifndef LEASE_LOST
        free_lease[own] = 1
#endif
    :: else ->
        TRY_LOCK(LEASABLE);
        if
        :: before == 0
        :: else -> lock(LEASABLE)
        fi;
        use(LEASABLE);
        UNLOCK(LEASABLE)
    fi;
    atomic { i = 0; own = 0; before = 0; finished++ }
}

proctype visitor()
{
    byte i;
    bit before;
    for (i : 0 .. CACHES - 1) {
        if
        :: held[i] == 0 ->
            TRY_LOCK(i);
            if
            :: before == 0 -> use(i); UNLOCK(i)
            :: else
            fi
        :: held[i] == 1
        fi
    }
    atomic { i = 0; before = 0; finished++ }
}

init {
    byte i;
    atomic {
        for (i : 0 .. LEASABLE - 1) { free_lease[i] = 1 }
        for (i : 1 .. USERS) { run user() }
        run visitor()
    }
    finished == USERS + 1;
    for (i : 0 .. LEASABLE - 1) { assert(free_lease[i] == 1) }
    for (i : 0 .. CACHES - 1) { assert(held[i] == 0) }
}

ltl gets_on { <> (finished == USERS + 1) }
