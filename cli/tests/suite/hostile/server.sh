# An MCP server on stdio that means harm: server.sh <how>. Some harm is done before the handshake, some in the call.
id=
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
endless() { exec tr '\0' x </dev/zero; }

case $1 in
  mute) trap '' TERM HUP; sleep 1000 & while :; do sleep 1000; done ;;
  gush) endless ;;
  chatter) yes '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' | head -c 10000000; sleep 1000 ;;
  quits) echo 'not today' >&2; exit 1 ;;
  # Works as it should, beside what it says on the side.
  shouts) head -c 300000000 /dev/zero >&2 & ;;
  stubborn) trap '' TERM HUP; sleep 1000 & ;;
esac

while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\|"[^"]*"\).*/\1/p')
  case $line in
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"hostile","version":"1"}}' ;;
    *'"method":"tools/list"'*) answer '{"tools":[{"name":"go","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*)
      case $1 in
        # Never answered. The next list of tools is: who hangs in all of it is `mute`.
        hangs | stubborn) ;;
        exits) exit 3 ;;
        floods) printf '{"jsonrpc":"2.0","id":%s,"result":"' "$id"; endless ;;
        half) printf '{"jsonrpc":"2.0","id":%s,"resu' "$id"; exit 0 ;;
        # JSON that is deeper than anybody reads, so that the answer is never seen.
        never) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":' "$id"
          head -c 100000 /dev/zero | tr '\0' '['; echo ;;
        big) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"' "$id"
          head -c 1000000 /dev/zero | tr '\0' x; printf '"}]}}\n' ;;
        *) answer '{"content":[{"type":"text","text":"fine"}]}' ;;
      esac ;;
    *'"id":'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
  esac
done
# Standard input is closed: time to go, which the stubborn one does not.
while [ "$1" = stubborn ]; do sleep 1000; done
