"""The recorder and the replayer of bench/traces, on programs and traces that are known.

traces.py CASE FOLDER, where FOLDER has the recorder, the replayer and the programs, and is where
the traces go; LIBRARY in the environment is libbinmalloc.so.
"""

import collections
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import benchmarks

FOLDER = Path(sys.argv.pop()).resolve()
REPLAY, PROGRAM = FOLDER / "trace_replay", FOLDER / "trace_program"
RECORDER, ODD_MALLOC = FOLDER / "libtrace_recorder.so", FOLDER / "libtrace_odd_malloc.so"
LIBRARY = os.environ["LIBRARY"]

FIRST_MARK, LAST_MARK = 900001, 900002      # program.c's
CALLS = ["malloc", "calloc", "aligned", "realloc", "free", "foreign", "thread"]

Event = collections.namedtuple("Event", "thread call slot size log2", defaults=(0, 0, 0))


# --- the format, written down once more: a change of it must be noticed ---------------------------

def varint(value):
    most = b""
    while value >= 0x80:
        most += bytes([value & 0x7F | 0x80])
        value >>= 7
    return most + bytes([value])


def checksum(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def encode(event):
    """The bytes of an event, its thread left out."""
    value = {"free": event.slot, "foreign": 0, "thread": event.slot}.get(event.call, event.size)
    data = varint(value << 3 | CALLS.index(event.call))
    if CALLS.index(event.call) <= CALLS.index("realloc"):
        data += varint(event.slot)
    return data + bytes([event.log2] if event.call == "aligned" else [])


def encode_all(events):
    data, current = bytearray(), 0
    for event in events:
        if event.thread != current:
            current = event.thread
            data += encode(Event(current, "thread", current))
        data += encode(event)
    return bytes(data)


def trace_of(data, events, threads, slots, magic=b"bintrace", version=1):
    return struct.pack("=8sIIQQQQ", magic, version, threads, len(data), events, checksum(data),
                       slots) + data


def trace(events):
    """A trace that is right if the events are."""
    return trace_of(encode_all(events), len(events), len({event.thread for event in events}),
                    max(event.slot for event in events))


SMALL = [Event(0, "malloc", 1, 100), Event(0, "calloc", 2, 5000), Event(1, "free", 1),
         Event(0, "aligned", 1, 300, 6), Event(1, "realloc", 2, 70000), Event(1, "free", 0),
         Event(0, "foreign"), Event(0, "free", 2)]


def random_events(threads, count):
    """Events of many threads, four at a time, which free and reallocate what others allocated."""
    rng = random.Random(threads)
    live, free, slots, events = [], [], 0, []
    thread = newest = 0
    for i in range(count):
        if i * threads // count > newest:
            thread = newest = newest + 1    # and the oldest of the four has ended
        elif rng.random() < 0.5 or thread < newest - 3:
            thread = rng.randint(max(0, newest - 3), newest)
        kind = rng.random()
        if not live or kind < 0.5 and len(live) < 3000:
            slot = free.pop() if free else slots + 1
            slots = max(slots, slot)
            call = rng.choice(CALLS[:3])
            live.append(slot)
            events.append(Event(thread, call, slot, rng.randint(0, 600),
                                rng.randint(0, 9) if call == "aligned" else 0))
            continue
        at = rng.randrange(len(live)) if kind < 0.8 else len(live) - 1
        if kind > 0.95:
            events.append(Event(thread, "realloc", live[at], rng.randint(1, 2000)))
            continue
        live[at], live[-1] = live[-1], live[at]
        free.append(live.pop())
        events.append(Event(thread, "free", free[-1]))
    return events


# --- running --------------------------------------------------------------------------------------

class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(dir=FOLDER)
        self.addCleanup(scratch.cleanup)
        self.path = Path(scratch.name)

    def run_program(self, *argv, status=0, **settings):
        done = subprocess.run([*map(str, argv)], env=os.environ | settings, cwd=self.path,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=100)
        self.assertEqual(done.returncode, status, done.stderr)
        if status == 0:
            self.assertEqual(done.stderr, "")
        return done

    def record(self, *argv, file="trace", status=0, odd=None, **settings):
        """`odd` has the program on odd_malloc.c."""
        libraries, odd = (f"{RECORDER} {ODD_MALLOC}", {"ODD": odd}) if odd else (str(RECORDER), {})
        return self.run_program(*argv, status=status, LD_PRELOAD=libraries, BINMALLOC_TRACE=file,
                                **odd, **settings)

    def dump(self, file="trace"):
        lines = self.run_program(REPLAY, "--dump", file).stdout.splitlines()
        return [Event(int(thread), call, *map(int, rest))
                for thread, call, *rest in map(str.split, lines)]

    def between_marks(self, file="trace"):
        """The events that the program is about."""
        events = self.dump(file)
        sizes = [event.size for event in events]
        self.assertEqual([sizes.count(FIRST_MARK), sizes.count(LAST_MARK)], [1, 1])
        return events[sizes.index(FIRST_MARK) + 2:sizes.index(LAST_MARK)]

    def replay(self, *arguments, **settings):
        """What is printed on the trace, and the results that compare.sh reads."""
        printed = self.run_program(REPLAY, *arguments, **settings).stdout
        described = dict(words for words in map(str.split, printed.splitlines()) if len(words) == 2)
        results = {match[1]: float(match[2]) for match in
                   map(benchmarks.RESULT.fullmatch, printed.splitlines()) if match}
        return {name: int(value) for name, value in described.items()}, results

    def replay_everywhere(self, file, calls):
        for library in ("", LIBRARY):
            for repeat in (1, 3):
                described, results = self.replay("--repeat", repeat, file, LD_PRELOAD=library)
                self.assertEqual(described["calls"], calls)
                self.assertGreater(results["time_per_call"], 0)

    def assert_refused(self, file, content, message, status=1, command=("--dump",), **settings):
        (self.path / file).write_bytes(content)
        done = self.run_program(REPLAY, *command, file, status=status, **settings)
        self.assertRegex(done.stderr, message)


# --- cases ----------------------------------------------------------------------------------------

class Traces(Case):
    def test_calls(self):
        self.record(PROGRAM, "calls")
        events = self.between_marks()
        self.assertEqual({event.thread for event in events}, {0})
        page = os.sysconf("SC_PAGESIZE")
        page_log2 = page.bit_length() - 1
        freed = ("free", True, 0, 0)
        found = [(event.call, event.slot != 0, event.size, event.log2) for event in events]
        self.assertEqual(found, [
            ("malloc", True, 24, 0), ("calloc", True, 110, 0), ("realloc", True, 2400, 0),
            ("aligned", True, 100, 6), freed, ("aligned", True, 8192, 12), freed,
            ("aligned", True, 33, 5), freed, ("aligned", True, 50, page_log2), freed,
            ("aligned", True, page, page_log2), freed, ("malloc", True, 8, 0), freed,
            ("malloc", True, 21, 0), freed, ("malloc", True, 60, 0), freed,
            ("free", False, 0, 0), ("malloc", True, 0, 0), freed, freed, freed])
        # Which block is which: realloc keeps the slot of the first, and that is freed at last.
        slots = [event.slot for event in events]
        self.assertEqual([slots[0], slots[1], slots[0]], [slots[2], slots[-2], slots[-1]])
        self.replay_everywhere("trace", len(self.dump()))

    def test_results(self):
        (self.path / "trace").write_bytes(trace(SMALL))
        described, results = self.replay("trace")
        self.assertEqual(described, {"calls": 7, "foreign": 1, "threads": 2, "slots": 2,
                                     "peak_bytes": 70300, "left_bytes": 300})
        self.assertEqual(set(results), {"time_per_call", "cpu_per_call", "page_faults",
                                        "rss_per_live", "rss_at_peak", "live_at_peak"})
        self.assertAlmostEqual(results["live_at_peak"], 70300 / 2**20, places=4)
        self.assertGreater(results["rss_per_live"], 0.5)
        self.assertEqual(self.dump(), SMALL)

    def test_memory(self):
        """All pages of what is live are resident at the peak, and nothing of what comes later."""
        quarter = 16 << 20
        (self.path / "trace").write_bytes(trace([
            Event(0, "malloc", 1, quarter), Event(0, "calloc", 2, quarter),
            Event(0, "malloc", 3, 100), Event(0, "realloc", 3, 2 * quarter),
            Event(0, "free", 2), Event(0, "malloc", 2, quarter),
            Event(0, "free", 1), Event(0, "malloc", 1, quarter - 1)]))
        for library in ("", LIBRARY):
            _, results = self.replay("trace", LD_PRELOAD=library)
            self.assertAlmostEqual(results["rss_at_peak"], 64, delta=6)
            self.assertAlmostEqual(results["rss_per_live"], 1, delta=0.1)

    def test_memory_of_threads(self):
        """At the peak, no thread is behind or ahead of it."""
        others = range(2, 34)
        (self.path / "trace").write_bytes(trace([
            Event(0, "malloc", 1, 100), *(Event(1, "malloc", slot, 1 << 20) for slot in others),
            Event(0, "malloc", 34, 32 << 20), *(Event(1, "free", slot) for slot in others),
            Event(0, "free", 34)]))
        for library in ("", LIBRARY):
            _, results = self.replay("trace", LD_PRELOAD=library)
            self.assertAlmostEqual(results["rss_at_peak"], 64, delta=6)

    def test_calls_of_the_allocator(self):
        """They are not the program's."""
        self.record(PROGRAM, "calls")
        self.record(PROGRAM, "calls", file="nested", odd="calls_itself")
        self.assertEqual(self.between_marks("nested"), self.between_marks())

    def test_threads(self):
        for odd in None, "one_list":
            file = f"trace-{odd}"
            self.record(PROGRAM, "threads", file=file, odd=odd)
            self.check_exchange(self.between_marks(file))
            self.replay_everywhere(file, len(self.dump(file)))

    def check_exchange(self, events):
        """Of program.c: each thread allocates its own size and frees its neighbour's, then its
        own."""
        allocated, freed, holder = collections.Counter(), collections.Counter(), {}
        owner = {}          # of a size: the thread
        for event in events:
            if event.call == "malloc" and 100 <= event.size < 104:
                owner.setdefault(event.size, event.thread)
                self.assertEqual(owner[event.size], event.thread)
                allocated[event.size] += 1
                holder[event.slot] = event.size
            elif event.call == "free" and event.slot in holder:
                freed[event.thread, holder.pop(event.slot)] += 1
        sizes = range(100, 104)
        self.assertEqual(allocated, {size: 40000 for size in sizes})
        self.assertEqual(freed, {(owner[size], other): 20000 for size in sizes
                                 for other in (size, 100 + (size - 99) % 4)})
        self.assertEqual(holder, {})

    def test_many_threads(self):
        for threads in (2, 7, 300):
            events = random_events(threads, 120_000)
            (self.path / "trace").write_bytes(trace(events))
            self.replay_everywhere("trace", len(events))

    def test_children(self):
        self.record(PROGRAM, "forks")
        sizes = {event.size for event in self.between_marks()}
        self.assertTrue({300, 500} <= sizes)
        self.assertFalse([size for size in sizes if 70_000 <= size < 70_050])

        self.record(PROGRAM, "starts", file="started")
        self.assertFalse([event for event in self.between_marks("started") if event.size == 70_000])

        # Each one's own file, also that of a program that takes the place of another.
        for case, count in ("starts", 2), ("exec", 2):
            self.record(PROGRAM, case, file=f"{case}-%p.trace")
            files = list(self.path.glob(f"{case}-*.trace"))
            children = [file for file in files if
                        any(event.size == 70_000 for event in self.dump(file.name))]
            self.assertEqual([len(files), len(children)], [count, 1])

    def test_chosen_program(self):
        self.record("sh", "-c", f"true; {PROGRAM}; exit 0", BINMALLOC_TRACE_PROGRAM=PROGRAM.name)
        self.assertEqual(self.between_marks(), [])

    def test_ends(self):
        for case, status in (("exit", 0), ("_exit", 0), ("exec", 0), ("kill", -signal.SIGKILL),
                             ("abort", -signal.SIGABRT), ("closes", 0)):
            self.record(PROGRAM, case, file=case, status=status)
            events = self.between_marks(case)
            self.assertEqual(len(events), 200_000 if case == "closes" else 0)

    def test_no_place(self):
        """A file that is there already, or cannot be made: the program runs, and it is said."""
        (self.path / "taken").write_text("mine")
        for file in "taken", "no/such/folder":
            settings = {"LD_PRELOAD": str(RECORDER), "BINMALLOC_TRACE": file}
            done = subprocess.run([PROGRAM, "calls"], cwd=self.path, stderr=subprocess.PIPE,
                                  text=True, env=os.environ | settings)
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stderr, f"^recorder: {file}: not recorded: .*\n$")
        self.assertEqual((self.path / "taken").read_text(), "mine")
        # Nor is anything recorded that nobody asked for.
        self.run_program(PROGRAM, "calls", LD_PRELOAD=str(RECORDER))

    def test_damaged(self):
        whole = trace(SMALL)
        refused = "^replay: damaged.* is (damaged: |not a trace|a trace of version)"
        for length in range(len(whole)):
            self.assert_refused("damaged", whole[:length], refused)
        for i in range(len(whole)):
            for change in 1, 0x80, 0xFF:
                changed = bytearray(whole)
                changed[i] ^= change
                self.assert_refused("damaged", bytes(changed), refused)
        # Room behind the events is not damage.
        (self.path / "trace").write_bytes(whole + bytes(1000))
        self.assertEqual(self.dump(), SMALL)
        # The same for both commands.
        self.assert_refused("damaged", whole[:-1], refused, command=())

    def test_meaningless(self):
        """Whole files, but not of calls that a program can have made."""
        malloc, free = Event(0, "malloc", 1, 8), Event(0, "free", 1)
        many = [Event(0, "malloc", slot, 1 << 47) for slot in range(1, 70_000)]
        for content, message in [
                (trace([malloc, malloc]), "event 1: a slot is used twice"),
                (trace([malloc, free, free]), "event 2: an empty slot"),
                (trace([malloc, free, Event(0, "realloc", 1, 8)]), "event 2: an empty slot"),
                (trace([malloc, Event(0, "malloc", 3, 8)]), "event 1: a slot out of its turn"),
                (trace_of(encode_all([malloc, Event(0, "free", 2)]), 2, 1, 1), "a slot beyond"),
                (trace_of(encode_all([Event(0, "malloc", 0, 8)]), 1, 1, 0), "without a slot"),
                (trace([Event(0, "malloc", 1, (1 << 47) + 1)]), "a size that no block"),
                (trace([Event(0, "aligned", 1, 8, 47)]), "an alignment that no block"),
                (trace(many), "more live bytes than can be"),
                (trace_of(b"\x07", 1, 1, 0), "of no kind"),
                (trace_of(b"\x0d", 1, 1, 0), "a foreign block with a number"),
                (trace_of(b"\xff" * 20, 1, 1, 0), "a number that is too long"),
                (trace_of(encode(malloc)[:1], 1, 1, 1), "an event that is cut off"),
                (trace_of(encode(Event(0, "aligned", 1, 8, 3))[:2], 1, 1, 1), "cut off"),
                (trace([malloc, Event(2, "free", 1)]), "a thread out of its turn"),
                (trace_of(encode(malloc), 2, 1, 1), "number of events"),
                (trace_of(encode(malloc), 1, 2, 1), "number of threads"),
                (trace_of(encode(malloc), 1, 1, 2), "number of slots"),
                (trace_of(encode(malloc), 1, 1, 1 << 40), "more slots than"),
                (trace_of(encode(malloc), 1, 1 << 30, 1), "more threads than"),
                (trace_of(b"", 0, 0, 0, magic=b"bintracf"), "is not a trace"),
                (trace_of(b"", 0, 0, 0, version=2), "version 2; this reads version 1")]:
            self.assert_refused("trace", content, message)
        self.assert_refused("trace", trace_of(b"", 0, 0, 0), "no calls", command=())
        self.assert_refused("trace", b"", "shorter than a header")

    def test_wrong_arguments(self):
        for arguments in [], ["--repeat", "0", "trace"], ["--repeat", "2x", "trace"], ["--dump"], \
                ["--no"], ["a", "b"]:
            done = self.run_program(REPLAY, *arguments, status=2)
            self.assertRegex(done.stderr, "^usage: ")
        done = self.run_program(REPLAY, "absent", status=1)
        self.assertRegex(done.stderr, "absent: No such file")
        self.run_program(REPLAY, ".", status=1)

    def test_broken_allocators(self):
        for odd, events, message in [
                ("twice", [Event(0, "malloc", 1, 5000), Event(0, "malloc", 2, 5000),
                           Event(0, "free", 1)], "a block of 5000 bytes was changed"),
                ("none", [Event(0, "malloc", 1, 5000)], "no memory for a block of 5000 bytes"),
                ("not_zero", [Event(0, "calloc", 1, 5000)], "not zero"),
                ("not_kept", [Event(0, "malloc", 1, 100), Event(0, "malloc", 2, 100),
                              Event(0, "realloc", 2, 5000)], "a block of 100 bytes was changed"),
                ("not_aligned", [Event(0, "aligned", 1, 5000, 6)], "not aligned to 64 bytes")]:
            content = trace(events)
            self.assert_refused("trace", content, message, command=(), ODD=odd,
                                LD_PRELOAD=str(ODD_MALLOC))
            self.replay("trace", ODD="", LD_PRELOAD=str(ODD_MALLOC))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(f"Traces.test_{case}" for case in sys.argv[1:])])
