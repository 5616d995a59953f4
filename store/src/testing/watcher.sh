# Ends one pair of test servers when no test process has used it for half a minute. $1: the pair's directory.
dir=$1

in_use() {
    for lease in "$dir"/leases/*; do
        if kill -0 "${lease##*/}" 2>/dev/null; then return 0; fi
        rm -f "$lease"
    done
    return 1
}

# $1 the file with the process's number in its first line, $2 the signal. A number given to another is left alone.
end() {
    pid=$(head -n 1 "$1" 2>/dev/null) || return
    name=$(cat "/proc/$pid/comm" 2>/dev/null || ps -o comm= -p "$pid" 2>/dev/null)
    case $name in
        *postgres* | *redis* | *valkey*) kill "$2" "$pid" ;;
    esac
}

idle=0
while [ "$idle" -lt 6 ]; do
    sleep 5
    if [ ! -d "$dir" ]; then exit 0; fi
    if in_use; then idle=0; else idle=$((idle + 1)); fi
done

# A process that left its lease before this line may use the servers; one after it finds them closed.
rm -f "$dir/open"
while in_use; do sleep 5; done

end "$dir/d/postgres/postmaster.pid" -QUIT
end "$dir/d/redis/redis.pid" -TERM
sleep 2
rm -rf "$dir"
