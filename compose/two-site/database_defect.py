"""Runs a database node whose Patroni decides differently, for the overlays of compose/known-bad. Not part of the stack."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import patroni.api  # before patroni.ha, which can only be imported after it
import patroni.ha
from patroni.__main__ import main

from database import configuration, wait_for_quorum

Ha = patroni.ha.Ha


def run(decides: type) -> None:
    """As `database` does, with this class in place of Patroni's own `Ha`."""
    members = os.environ["ETCD"].split(",")
    answering = wait_for_quorum(Path(os.environ["DATA"]), members)
    os.environ["ETCD"] = ",".join([answering, *(member for member in members if member != answering)])
    os.environ["PATRONI_CONFIGURATION"] = json.dumps(configuration(os.environ))
    patroni.ha.Ha = decides
    sys.argv = ["patroni"]
    main()
