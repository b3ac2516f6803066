"""python_dicts.py ENTRIES: builds big dicts of many kinds of objects, and drops them.

To be run with PYTHONMALLOC=malloc: otherwise Python serves objects of up to 512 bytes from
its own arenas, and the malloc below it sees next to nothing. And with PYTHONHASHSEED=0,
so that every run hashes alike.
"""

import sys


def build(entries, generation):
    """Short and long strings, tuples, lists and nested dicts; ints are dict keys too."""
    people = {}
    for i in range(entries):
        key = f"person-{generation}-{i * 7919 % entries}"
        people[key] = {
            "id": i + 1_000_000,
            "tags": (f"tag{i % 97}", f"a somewhat longer tag {i % 1009}"),
            "scores": [float(i % k) for k in range(1, 2 + i % 6)],
        }
    return people


def invert(people):
    by_tag = {}
    for key, person in people.items():
        for tag in person["tags"]:
            by_tag.setdefault(tag, []).append(key)
    return by_tag


def drop_every_third(people):
    """Leaves holes between live objects for the next generation to fill."""
    for key in [key for i, key in enumerate(people) if i % 3 == 0]:
        del people[key]


def main(entries):
    survivors = {}
    for generation in range(4):
        people = build(entries, generation)
        by_tag = invert(people)
        longest = max(by_tag, key=lambda tag: (len(by_tag[tag]), tag))
        text = ",".join(sorted(by_tag[longest]))
        total = sum(sum(person["scores"]) for person in people.values())
        print(generation, len(people), len(by_tag), longest, len(text), total)

        drop_every_third(people)
        if generation % 2 == 0:
            survivors = people
    print(len(survivors), sum(person["id"] for person in survivors.values()))


main(int(sys.argv[1]))
