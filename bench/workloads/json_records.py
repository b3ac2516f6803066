"""json_records.py RECORDS: writes one JSON array of nested records."""

import json
import random
import sys


def record(rng, i):
    return {
        "id": i,
        "name": "".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 30))),
        "group": rng.randint(0, 99),
        "values": [rng.randint(0, 10**6) / 8 for _ in range(rng.randint(0, 8))],
        "address": {"city": f"city {rng.randint(0, 500)}",
                    "lines": ["x" * rng.randint(0, 40) for _ in range(2)]},
    }


def main(records):
    rng = random.Random(2)
    json.dump([record(rng, i) for i in range(records)], sys.stdout)


main(int(sys.argv[1]))
