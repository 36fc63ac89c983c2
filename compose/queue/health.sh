#!/usr/bin/env bash
# Health check: passes when what listens at host:port ($1) answers PING, or GET of a path ($2) with 200.
exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
if [ -n "${2:-}" ]; then printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3; else printf 'PING\r\n' >&3; fi
read -r -t 2 answer <&3
case $answer in
    +PONG* | HTTP/*" 200 "*) ;;
    *) echo "$1 answered: $answer" >&2; exit 1 ;;
esac
