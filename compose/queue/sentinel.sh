#!/usr/bin/env bash
# A Sentinel. LISTEN, ADVERTISE and PRIMARY: host:port. DATA: its folder, in which it remembers what it has seen and decided.
set -euo pipefail
if [ ! -e "$DATA/sentinel.conf" ]; then
    cat >"$DATA/sentinel.conf" <<END
bind ${LISTEN%:*}
port ${LISTEN##*:}
protected-mode no
dir $DATA
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip ${ADVERTISE%:*}
sentinel announce-port ${ADVERTISE##*:}
sentinel monitor shop ${PRIMARY%:*} ${PRIMARY##*:} 2
sentinel down-after-milliseconds shop 5000
sentinel failover-timeout shop 10000
END
fi
exec valkey-server "$DATA/sentinel.conf" --sentinel
