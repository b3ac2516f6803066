"""Measures a Redis server while redis-benchmark and a load of our own drive it.

The server's processor time, faults and peak RSS are measured; the time is that of the drivers,
from the first command to the last reply. redis-benchmark takes its keys at random, so what it
leaves cannot be compared. Our own load is the same every time, and its keys are its own: all of
the server's replies to it are what must not differ.
"""

import contextlib
import hashlib
import random
import shutil
import socket
import subprocess
import threading
import time

import measuring

BENCHMARK_TESTS = "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100"
END = b"end of load"


def server_argv(tools):
    """Debian keeps the server in redis-tools, under the name of a tool that it also is; it goes by
    the name that it is started with. The package redis-server is a link to that, and a service."""
    server = shutil.which("redis-server")
    if server is None:
        link = tools / "redis-server"
        link.unlink(missing_ok=True)
        link.symlink_to(shutil.which("redis-check-rdb"))
        server = str(link)
    # A socket in the server's own folder: no port that could be taken. Nothing goes to disk.
    return [server, "--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"]


def encode(*words):
    """One command in Redis's protocol."""
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def filling_commands(keys):
    """Values of all types and sizes, a part of them changed and dropped again."""
    rng = random.Random(4)
    for i in range(keys):
        yield encode("SET", f"load:string:{i}", "v" * rng.randint(1, 2000))
        yield encode("RPUSH", f"load:list:{i}", *("e" * rng.randint(1, 80) for _ in range(100)))
        yield encode("HSET", f"load:hash:{i}", *(f"{j}-{i}" for j in range(20)))
        yield encode("APPEND", f"load:string:{rng.randrange(i + 1)}", "w" * rng.randint(1, 500))
        yield encode("UNLINK", f"load:list:{rng.randrange(i + 1)}")
        if i % 10 == 0:
            # Values of this many parts are freed by the server's background thread.
            scored = (word for j in range(200) for word in (j, f"member {j} of {i}"))
            yield encode("ZADD", f"load:sorted:{i}", *scored)
            yield encode("UNLINK", f"load:sorted:{rng.randrange(0, i + 1, 10)}")
    yield encode("DBSIZE")


def reading_commands(keys):
    for i in range(keys):
        yield encode("GET", f"load:string:{i}")
        yield encode("LRANGE", f"load:list:{i}", 0, -1)
        yield encode("HGET", f"load:hash:{i}", f"4-{i}")
        if i % 10 == 0:
            yield encode("ZRANGE", f"load:sorted:{i}", 0, -1, "WITHSCORES")


def exchange(path, commands, digest, limit):
    """Sends commands without waiting for each, and hashes all replies. A server that is silent
    for `limit` seconds hangs."""
    last = encode("ECHO", END.decode())
    last_reply = b"$%d\r\n%s\r\n" % (len(END), END)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(limit)
        connection.connect(path)
        sender = threading.Thread(target=send, args=(connection, commands + last))
        sender.start()
        tail = b""
        while not tail.endswith(last_reply):
            data = connection.recv(1 << 20)
            if not data:
                raise measuring.RunFailed("the server closed the connection")
            digest.update(data)
            tail = (tail + data)[-len(last_reply):]
        sender.join()


def send(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        pass  # the server is gone: the receiving side reports it


def wait_until_ready(child, path, limit):
    give_up = time.monotonic() + limit
    while child.process.poll() is None and time.monotonic() < give_up:
        try:
            return exchange(path, b"", hashlib.sha256(), limit)
        except OSError:
            time.sleep(0.01)
    raise measuring.RunFailed("the server does not answer: " + child.tail("stdout"))


class Load:
    """What the server is put through. Made once, so that making it is not in the time."""

    def __init__(self, keys, requests):
        self.requests = requests
        self.keys = keys
        self.filling = b"".join(filling_commands(keys))
        self.reading = b"".join(reading_commands(keys))

    def run(self, command, preload, limit):
        with measuring.Child(command, preload) as child:
            path = str(child.path / "socket")
            digest = hashlib.sha256()
            try:
                wait_until_ready(child, path, limit=30)
                start = time.monotonic()
                exchange(path, self.filling, digest, limit)
                self.run_benchmark(path, limit)
                exchange(path, self.reading, digest, limit)
                elapsed = time.monotonic() - start
                shut_down(path)
            except (OSError, measuring.RunFailed) as problem:
                raise child.cause_of(problem) from None
            return measuring.sample(child.wait(limit=30), digest.hexdigest(), wall_s=elapsed)

    def run_benchmark(self, path, limit):
        try:
            done = subprocess.run(
                ["redis-benchmark", "-s", path, "-q", "-n", str(self.requests), "-r", "100000",
                 "-d", "100", "-c", "20", "-P", "16", "-t", BENCHMARK_TESTS],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            raise measuring.RunFailed(f"redis-benchmark: over {limit:.0f} s") from None
        if done.returncode != 0 or "error" in done.stdout.lower():
            raise measuring.RunFailed(f"redis-benchmark: {done.stdout[-2000:]}")


def shut_down(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(encode("SHUTDOWN", "NOSAVE"))
        with contextlib.suppress(ConnectionError):
            connection.recv(1)  # until the server has closed it
