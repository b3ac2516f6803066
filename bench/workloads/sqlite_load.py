"""sqlite_load.py ROWS: writes SQL that fills, searches, changes and checks a database.

Every statement is parsed and compiled for itself (many small, short-lived blocks); the
database stays in memory (many long-lived blocks of a page each).
"""

import random
import sys

STREETS = "Acacia Birch Cedar Dogwood Elm Fir Gorse Hazel Ivy Juniper".split()
CITIES = "Aarhus Bergen Cork Delft Espoo Florence Ghent Haifa Izmir Jena".split()

SCHEMA = """\
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, street TEXT, city TEXT, born INTEGER);
CREATE TABLE payment(id INTEGER PRIMARY KEY, person INTEGER, cents INTEGER, note TEXT);
"""

QUERIES = """\
CREATE INDEX person_city ON person(city, name);
CREATE INDEX payment_person ON payment(person);
SELECT city, count(*), sum(cents) FROM person JOIN payment ON payment.person = person.id
  GROUP BY city ORDER BY city;
SELECT length(group_concat(name, ', ')), length(group_concat(street, '; ')) FROM person;
UPDATE payment SET note = note || ' (seen ' || person || ')' WHERE cents % 3 = 0;
DELETE FROM payment WHERE cents % 5 = 0;
SELECT substr(note, 1, 12) AS start, count(*), max(length(note)) FROM payment
  GROUP BY start ORDER BY 2 DESC, 1 LIMIT 10;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
  SELECT count(DISTINCT printf('%08x-%s', i * 2654435761 % 4294967296, hex(i % 977))) FROM n;
DROP INDEX person_city;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(length(note)) FROM payment;
"""


def main(rows):
    rng = random.Random(1)
    write = sys.stdout.write
    write(SCHEMA)
    write("BEGIN;\n")
    for i in range(1, rows + 1):
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 24)))
        street = f"{rng.choice(STREETS)} Street {rng.randint(1, 300)}"
        write(f"INSERT INTO person VALUES({i}, '{name}', '{street}', "
              f"'{rng.choice(CITIES)}', {rng.randint(1920, 2010)});\n")
        for _ in range(rng.randint(0, 4)):
            note = "x" * rng.randint(0, 60)
            write(f"INSERT INTO payment(person, cents, note) "
                  f"VALUES({rng.randint(1, i)}, {rng.randint(1, 99999)}, '{note}');\n")
        if i % 50 == 0:
            write("SELECT sum(cents) FROM payment "
                  "WHERE id > (SELECT max(id) FROM payment) - 40 AND note LIKE '%xxx';\n")
    write("COMMIT;\n")
    write(QUERIES.format(rows=rows))


main(int(sys.argv[1]))
