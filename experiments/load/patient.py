"""Everyday load for the two-site stack, of users who wait for up to ten seconds for an answer."""

from __future__ import annotations

import everyday  # a module of this folder, which Locust puts on the path


class PatientCitizen(everyday.Citizen):
    """As everybody, with more patience."""

    deadline_s = 10.0
