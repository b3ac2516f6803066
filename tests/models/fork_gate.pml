/* The gate that stops slow paths while a process forks: fork_gate.hpp, leases.hpp, cache_pool.hpp.
 *
 *   proctype lessee    a thread with a lease. Its slow path: busy = true, an exchange; if the gate is
 *                      closed, busy = false, wait until it is open, again. Inside, it may lock the
 *                      page allocator, or look into the idle cache
 *   proctype visitor   a thread without a lease, which locks a shared cache, and from there, or with
 *                      no lock, looks into the idle cache
 *   with_idle          a look into the idle cache, by both: try_lock(), busy, gate; if that is closed
 *                      it backs out, and does not wait
 *   proctype forker    forks one at a time: gate closed; passes over the flags of all leasable caches
 *                      until one pass finds none set, or its patience ends; locks every shared cache and
 *                      the page allocator; fork; unlocks; gate open
 *
 * One step is one access to memory that others see, in sequential consistency: a flag that is set by
 * a plain store, whose effect others see after the load of the gate, is the mutation
 * GATE_BEFORE_FLAG.
 *
 * Proved: at the fork nobody is inside a shared cache or the page allocator, or inside a leasable one
 * that the child does not set aside; it sets none aside if patience did not end; nobody is in a cache
 * with another; no deadlock; everybody comes to the end (with a fair scheduler).
 *
 * Mutations, each of which must be an error:
 *   GATE_BEFORE_FLAG    the flag is set after the gate was looked at
 *   NO_SECOND_LOOK      who waited for the gate goes in without a new look at it
 *   NOTHING_ASIDE       the child also uses what was busy when patience ended
 *   NO_GATE_AT_IDLE     who looks into the idle cache does not look at the gate
 *   WAITS_INSIDE        who does waits for the gate, instead of backing out
 *   LOCKS_FIRST         the forker locks the page allocator before its passes
 *   FORKS_AT_ONCE       two threads fork at the same time
 *   CHILD_READS_FLAGS   the child sets aside what is flagged at the fork, not at the last pass
 */
#ifdef LIVENESS
#define LESSEES 1
#else
#define LESSEES 2
#endif
#define CACHES (LESSEES + 1) /* leasable: one for each lessee, and an idle one */
#define IDLE LESSEES
#define FORKERS 2

bit gate_closed;
bit forking; /* forks come one after the other */
bit busy[CACHES];
bit idle_held;
bit shared_held;
bit pages_held;

byte inside[CACHES]; /* who really changes their lists */
byte inside_shared;
byte inside_pages;
byte finished;

#define EVERYBODY (LESSEES + 1 + FORKERS)

inline lock(l) { atomic { l == 0; l = 1 } }
inline try_lock(l) { atomic { got = !l; l = 1 } }

inline work(who)
{
    atomic { who++; assert(who == 1) }
    who--
}

inline use_pages()
{
    lock(pages_held);
    work(inside_pages);
    pages_held = 0
}

/* slow_call */
inline enter(c)
{
    do
    ::
#ifdef GATE_BEFORE_FLAG
        if
        :: gate_closed == 0 -> busy[c] = 1; break
        :: gate_closed == 1 -> gate_closed == 0
        fi
#else
        busy[c] = 1;
        if
        :: gate_closed == 0 -> break
        :: gate_closed == 1 ->
            busy[c] = 0;
            gate_closed == 0;
#ifdef NO_SECOND_LOOK
            busy[c] = 1;
            break
#endif
        fi
#endif
    od
}

inline leave(c) { busy[c] = 0 }

inline with_idle()
{
    try_lock(idle_held);
    if
    :: got ->
#ifdef WAITS_INSIDE
        enter(IDLE);
        work(inside[IDLE]);
        leave(IDLE);
#else
        busy[IDLE] = 1;
#ifdef NO_GATE_AT_IDLE
        work(inside[IDLE]);
#else
        if
        :: gate_closed == 0 ->
            atomic { inside[IDLE]++; assert(inside[IDLE] == 1) }
            use_pages();
            inside[IDLE]--
        :: gate_closed == 1
        fi;
#endif
        leave(IDLE);
#endif
        idle_held = 0
    :: else
    fi
}

proctype lessee(byte mine)
{
    bit got;
    enter(mine);
    atomic { inside[mine]++; assert(inside[mine] == 1) }
    if
    :: true -> use_pages()
    :: true ->
        with_idle()
    fi;
    atomic { inside[mine]--; leave(mine) }
    atomic { got = 0; finished++ }
}

proctype visitor()
{
    bit got;
    lock(shared_held);
    inside_shared++;
    if
    :: true -> use_pages()
    :: true -> with_idle()
    fi;
    inside_shared--;
    shared_held = 0;
    with_idle();
    atomic { got = 0; finished++ }
}

proctype forker()
{
    byte i;
    bit any;
    bit interrupted[CACHES];
#ifndef FORKS_AT_ONCE
    lock(forking);
#endif
    gate_closed = 1;
#ifdef LOCKS_FIRST
    lock(pages_held);
#endif
    do
    ::
        any = 0;
        for (i : 0 .. CACHES - 1) {
            d_step { interrupted[i] = busy[i]; any = any || interrupted[i] }
        }
        if
        :: any == 0 -> break
        :: any == 1
        :: any == 1 -> break /* patience ends */
        fi
    od;
    lock(shared_held);
#ifndef LOCKS_FIRST
    lock(pages_held);
#endif
    atomic { /* fork() */
        for (i : 0 .. CACHES - 1) {
#ifdef CHILD_READS_FLAGS
            interrupted[i] = busy[i];
#endif
#ifdef NOTHING_ASIDE
            interrupted[i] = 0;
#endif
            assert(inside[i] == 0 || interrupted[i]);
            assert(any || !interrupted[i]);
            interrupted[i] = 0
        }
        assert(inside_shared == 0 && inside_pages == 0)
    }
    pages_held = 0;
    shared_held = 0;
    gate_closed = 0;
#ifndef FORKS_AT_ONCE
    forking = 0;
#endif
    atomic { i = 0; any = 0; finished++ }
}

init {
    byte i;
    atomic {
        for (i : 0 .. LESSEES - 1) { run lessee(i) }
        for (i : 1 .. FORKERS) { run forker() }
        run visitor()
    }
    finished == EVERYBODY;
    for (i : 0 .. CACHES - 1) { assert(busy[i] == 0) }
    assert(!idle_held && !shared_held && !pages_held && !gate_closed)
}

ltl gets_on { <> (finished == EVERYBODY) }
