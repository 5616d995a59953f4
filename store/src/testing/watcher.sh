# Ends one pair of test servers when no test process has used it for half a minute.
# $1 the pair's directory, $2 PostgreSQL's process, $3 Redis's.
dir=$1 postgres=$2 redis=$3

in_use() {
    for lease in "$dir"/leases/*; do
        if kill -0 "${lease##*/}" 2>/dev/null; then return 0; fi
        rm -f "$lease"
    done
    return 1
}

idle=0
while [ "$idle" -lt 6 ]; do
    sleep 5
    if in_use; then idle=0; else idle=$((idle + 1)); fi
done

# A process that left its lease before this line may use the servers; one after it finds them closed.
rm -f "$dir/open"
while in_use; do sleep 5; done

# The servers' own notes go when they end: a number that was given again is left alone.
if [ -e "$dir/d/postgres/postmaster.pid" ]; then kill -QUIT "$postgres"; fi
if [ -e "$dir/d/redis/redis.pid" ]; then kill -TERM "$redis"; fi
sleep 2
rm -rf "$dir"
