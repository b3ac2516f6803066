#!/usr/bin/env bash
# run_programs.sh PROGRAM LIBRARY: runs a workload of a real program twice, as it is and with
# LD_PRELOAD=LIBRARY, and compares what it prints. Fails if they differ, if either run fails, or if
# the program did not in fact get its malloc from the library.
set -euo pipefail
program=$1
library=$(realpath "$2")
scratch=$(mktemp -d)  # short, as the path of a Unix socket must be
trap 'rm -rf "$scratch"' EXIT

# workload_NAME runs in an empty directory and prints what must be equal in both runs.
# command_NAME is a command whose process is checked for being on the library.

command_sqlite3=(sqlite3 :memory: 'select 1')
workload_sqlite3() {
    sqlite3 test.db <<'SQL'
create table item (id integer primary key, name text, size integer, body blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
insert into item select i, 'name ' || (i * 7919 % 100000), i % 977, zeroblob(i % 300) from n;
create index by_name on item (name);
delete from item where size % 5 = 0;
select count(*), sum(size), sum(length(body)) from item;
select size, count(*), max(name) from item group by size order by 2 desc, 1 limit 20;
select group_concat(name, ',') from (select name from item order by name limit 2000);
update item set body = randomblob(1000) where size < 100;
vacuum;
pragma integrity_check;
SQL
    sqlite3 test.db 'select id, name from item order by name' | cksum
}

command_python3=(env PYTHONMALLOC=malloc python3 -c 1)
workload_python3() {
    # Without this Python would allocate small objects itself.
    PYTHONMALLOC=malloc python3 - <<'PY'
import collections, hashlib, json, multiprocessing, random, re, subprocess, sys, threading

random.seed(1)
table = {f"key {i}": [i, str(i) * (i % 7), {"half": i / 2}] for i in range(60000)}
text = json.dumps(table)
assert json.loads(text) == table
print(len(text), hashlib.sha256(text.encode()).hexdigest())

results = [None] * 8
def count_words(slot):
    words = re.findall(r"\w+", text[slot * 100000:(slot + 1) * 100000])
    results[slot] = sorted(collections.Counter(words).items())[:50]
threads = [threading.Thread(target=count_words, args=(slot,)) for slot in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(results)

def work(seed):
    numbers = random.Random(seed).sample(range(10**6), 20000)
    return sum(sorted(numbers)[::100])
# Forks while this process is threaded.
stop = threading.Event()
def churn():
    while not stop.is_set():
        [bytearray(n) for n in range(500)]
churner = threading.Thread(target=churn)
churner.start()
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(pool.map(work, range(40)))
print(subprocess.run([sys.executable, "-c", "print(sum(map(int, '123')))"],
                     capture_output=True, check=True).stdout)
stop.set()
churner.join()
PY
}

# The server and the tool that checks its files are one program, which goes by the name it is called.
# Debian's redis-server package adds to redis-tools only that name, and a system service.
redis_server=$scratch/redis-server
command_redis=("$redis_server" --version)
workload_redis() {
    local cli=(redis-cli -s redis.sock) digest
    start_redis() {
        "$redis_server" --port 0 --unixsocket "$PWD/redis.sock" --dir "$PWD" --save '' \
            --enable-debug-command yes >>redis.log 2>&1 &
        server=$!
        trap 'kill "$server" 2>/dev/null || true' EXIT
        for _ in $(seq 100); do
            [ "$("${cli[@]}" ping 2>/dev/null)" = PONG ] && return
            sleep 0.1
        done
        cat redis.log
        return 1
    }
    start_redis
    # Load of many kinds, its timings not of interest here.
    redis-benchmark -s redis.sock -q -n 20000 -c 20 -d 300 -r 5000 \
        -t set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset >benchmark.log
    "${cli[@]}" flushall
    "${cli[@]}" eval "for i = 1, 50000 do
        redis.call('set', 'string' .. i, string.rep('x', i % 500))
        redis.call('hset', 'hash' .. i % 100, i, i * i)
        redis.call('zadd', 'sorted' .. i % 10, i * 7919 % 1000, i)
    end return redis.call('dbsize')" 0
    digest=$("${cli[@]}" debug digest)
    echo "$digest"
    # The snapshot is written by a forked child while the parent goes on changing memory.
    "${cli[@]}" bgsave >/dev/null
    redis-benchmark -s redis.sock -q -n 20000 -c 20 -d 3000 -t set >>benchmark.log
    while "${cli[@]}" info persistence | grep -q 'rdb_bgsave_in_progress:1'; do sleep 0.1; done
    "${cli[@]}" info persistence | grep rdb_last_bgsave_status
    "${cli[@]}" shutdown nosave
    wait "$server"
    # What the child saved is what was there when it was forked.
    start_redis
    [ "$("${cli[@]}" debug digest)" = "$digest" ] && echo "snapshot equal"
    "${cli[@]}" shutdown nosave
    wait "$server"
    grep -iE 'crash|bug report|assert' redis.log && return 1
    return 0
}

command_perl=(perl -e 1)
workload_perl() {
    perl - <<'PERL'
use strict; use warnings;
my (%count, @lines);
my $state = 1;
for my $i (1 .. 60000) {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    push @lines, sprintf("line %d: %s", $state % 5000, "ab" x ($state % 40));
}
my $text = join("\n", @lines);
$count{$1}++ while $text =~ /line (\d+)/g;
print "$_ $count{$_}\n" for (sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count)[0 .. 50];
my $sum = 0;
$sum += unpack("%32C*", $_) for sort map { scalar reverse } @lines;
print "$sum\n";
$| = 1;
for my $child (1 .. 5) {
    my $pid = fork() // die;
    if ($pid == 0) { my @copy = map { "$_ $child" } @lines; print scalar(@copy), "\n"; exit 0 }
    waitpid($pid, 0);
    die "child failed: $?" if $?;
}
PERL
}

command_gcc=(g++ --version)
workload_gcc() {
    cat >unit.cpp <<'CPP'
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
int main() {
    std::map<std::string, std::vector<int>> index;
    std::string word;
    for (int line = 0; std::cin >> word; ++line)
        if (std::regex_match(word, std::regex("[a-z]+[0-9]*"))) index[word].push_back(line);
    for (auto& [key, lines] : index) {
        std::sort(lines.rbegin(), lines.rend());
        std::cout << key << ' ' << lines.size() << '\n';
    }
}
CPP
    g++ -std=c++20 -O2 -g -Wall unit.cpp -c -o unit.o
    cksum unit.o
    g++ unit.o -o unit
    echo "one two2 one three3 Four" | ./unit
}

command_git=(git --version)
workload_git() {
    export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='2024-01-01T00:00:00Z'
    export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org
    export GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
    git init -q -b main repository
    cd repository
    for revision in 1 2 3; do
        for i in $(seq 300); do
            mkdir -p "d$((i % 20))"
            seq "$((i * revision))" "$((i * revision + 400))" >"d$((i % 20))/f$i"
        done
        git add -A
        git commit -q -m "revision $revision"
    done
    git checkout -q -b side HEAD~1
    echo side >side && git add side && git commit -q -m side
    git merge -q -m merge main
    git log --stat --format='%H %s' | cksum
    git gc -q --aggressive
    git fsck --full --strict
    git rev-parse HEAD 'HEAD^{tree}'
    git blame d1/f1 | cksum
    git grep -c 77 | cksum
    git status --porcelain
}

# --- the comparison -------------------------------------------------------------------------------

# The loader says which library a symbol was found in.
check_preloaded() {
    local command="command_${program}[@]"
    LD_PRELOAD=$library LD_DEBUG=bindings LD_DEBUG_OUTPUT=$scratch/bindings "${!command}" >/dev/null
    grep -qh "to $library.*symbol .malloc'" "$scratch"/bindings.*
}

run_workload() {
    local name=$1 status
    mkdir "$scratch/run"
    # Not with `||`, which would switch off -e inside.
    set +e
    (set -e; cd "$scratch/run"; "workload_$program") >"$scratch/$name.out" 2>"$scratch/$name.err"
    status=$?
    set -e
    rm -rf "$scratch/run"
    [ "$status" -eq 0 ] && return
    echo "$program: the $name run failed with status $status"
    tail -n 50 "$scratch/$name.out" "$scratch/$name.err"
    exit 1
}

if [ "$program" = redis ]; then
    ln -s "$(command -v redis-server || command -v redis-check-rdb)" "$redis_server"
fi
check_preloaded || { echo "$program does not get its malloc from $library"; exit 1; }
run_workload plain
LD_PRELOAD=$library run_workload preloaded
[ -s "$scratch/plain.out" ] || { echo "$program: the workload prints nothing"; exit 1; }
diff -u "$scratch/plain.out" "$scratch/preloaded.out"
diff -u "$scratch/plain.err" "$scratch/preloaded.err"
wc -lc "$scratch/plain.out" | sed "s|$scratch/||; s|^|equal: |"
