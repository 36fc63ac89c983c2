#!/usr/bin/env bash
# A Valkey node. LISTEN and ADVERTISE: host:port. DATA: its folder. PRIMARY: whose replica it is at first, where it is one.
#
# What Sentinel decides later is written to its configuration file, so a node starts as what it was when it ended: one that
# was the primary as its site burned comes back as a primary, until Sentinel makes it a replica some ten seconds later.
set -euo pipefail
if [ ! -e "$DATA/valkey.conf" ]; then
    cat >"$DATA/valkey.conf" <<END
bind ${LISTEN%:*}
port ${LISTEN##*:}
protected-mode no
dir $DATA
save ""
appendonly yes
replica-announce-ip ${ADVERTISE%:*}
replica-announce-port ${ADVERTISE##*:}
repl-diskless-sync-delay 0
${PRIMARY:+replicaof ${PRIMARY%:*} ${PRIMARY##*:}}
END
fi
exec valkey-server "$DATA/valkey.conf"
