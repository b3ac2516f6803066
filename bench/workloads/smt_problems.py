"""smt_problems.py COUNT: writes job-shop problems for an SMT solver, one after the other.

In each, SIZE jobs pass through SIZE machines in orders of their own, and the solver finds how
early all can be done. It builds many small terms, and drops them all before the next problem.
"""

import random
import sys

SIZE = 7


def write_problem(rng):
    # jobs[j] is the way of job j: pairs of a machine and how long the job takes there.
    jobs = [[(machine, rng.randint(1, 9)) for machine in rng.sample(range(SIZE), SIZE)]
            for _ in range(SIZE)]

    print("(reset)")
    print("(set-option :smt.random_seed 1)")
    print("(declare-const end Int)")
    for j, way in enumerate(jobs):
        for machine, _ in way:
            print(f"(declare-const start_{j}_{machine} Int)")
        print(f"(assert (>= start_{j}_{way[0][0]} 0))")
        for (machine, length), (following, _) in zip(way, way[1:]):
            print(f"(assert (>= start_{j}_{following} (+ start_{j}_{machine} {length})))")
        print(f"(assert (>= end (+ start_{j}_{way[-1][0]} {way[-1][1]})))")

    lengths = [dict(way) for way in jobs]
    for machine in range(SIZE):
        for a in range(SIZE):
            for b in range(a + 1, SIZE):
                print(f"(assert (or"
                      f" (>= start_{a}_{machine} (+ start_{b}_{machine} {lengths[b][machine]}))"
                      f" (>= start_{b}_{machine} (+ start_{a}_{machine} {lengths[a][machine]}))))")
    print("(minimize end)")
    print("(check-sat)")
    print("(eval end)")


def main(count):
    rng = random.Random(3)
    for _ in range(count):
        write_problem(rng)


main(int(sys.argv[1]))
