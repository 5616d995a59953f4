# shellcheck shell=sh
# Where PostgreSQL and Redis are installed. Sourced; the same places as `store::embedded` looks in:
# PATH first, then the known directories of apt, dnf and Homebrew. And libfaketime, where `store::testing` looks.

# Prints the directories to look in, one a line, best first; of several versions the highest.
server_directories() {
    printf '%s\n' "$PATH" | tr ':' '\n'
    # Newest first: a plain glob would have 9 after 16.
    for base in /usr/lib/postgresql /usr/pgsql /opt/homebrew/opt /usr/local/opt /home/linuxbrew/.linuxbrew/opt; do
        for directory in "$base"/[0-9]*/bin "$base"-[0-9]*/bin "$base"/postgresql*/bin; do
            [ -d "$directory" ] && printf '%s\n' "$directory"
        done | sed 's/.*[^0-9]\([0-9][0-9]*\)\/bin$/\1 &/' | sort -rn | sed 's/^[0-9]* //'
    done
    printf '%s\n' /usr/bin /usr/sbin /usr/local/bin /opt/homebrew/bin /home/linuxbrew/.linuxbrew/bin
}

# Prints the directory that holds `initdb`, `pg_ctl` and `postgres`; fails when there is none.
postgres_directory() {
    server_directories | while IFS= read -r directory; do
        if [ -x "$directory/initdb" ] && [ -x "$directory/pg_ctl" ] && [ -x "$directory/postgres" ]; then
            printf '%s\n' "$directory"
            break
        fi
    done | grep .
}

# Prints the path of `redis-server` or `valkey-server`; fails when there is neither.
redis_server() {
    server_directories | while IFS= read -r directory; do
        for name in redis-server valkey-server; do
            if [ -x "$directory/$name" ]; then
                printf '%s\n' "$directory/$name"
                break 2
            fi
        done
    done | grep .
}

# Prints the path of libfaketime, with which tests move the clock of a server; fails when there is none.
faketime_library() {
    for library in /usr/lib64 /usr/lib /usr/local/lib /usr/local/lib64 /usr/lib/*; do
        [ -f "$library/faketime/libfaketime.so.1" ] && printf '%s\n' "$library/faketime/libfaketime.so.1" && return
    done
    return 1
}
