"""What is covered, and what must stay readable."""

from __future__ import annotations

import json
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab.history.rows import Condition, Fault, Note, Probe
from chaoslab.redact import MASK, Secrets, gather, looks_secret, mask_shapes

SECRET = "hunter2-S3cr3t"
VALUES = (
    st.text(string.ascii_letters + string.digits + "-_+/.~!%$\"'\\äß ", min_size=5, max_size=30)
    .map(str.strip)
    .filter(lambda value: len(value) >= 5)
)
NAMES = st.sampled_from(["PASSWORD", "DB_PASSWORD", "apiToken", "X-Api-Key", "Authorization", "Cookie", "client_secret", "DSN"])


@pytest.mark.parametrize(
    "name",
    [
        *("PASSWORD", "PGPASSWORD", "db.passwd", "MY_PWD", "accessToken", "X-Auth-Token", "client_secret", "API_KEY", "apikey"),
        *("AWS_ACCESS_KEY_ID", "Authorization", "Proxy-Authorization", "Set-Cookie", "SENTRY_DSN", "credentials"),
    ],
)
def test_names_that_say_secret(name: str) -> None:
    """However they are written."""
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["LISTEN", "DATABASE", "keyboard", "monkey", "path", "author", "status", "passes", "stack", ""]
)
def test_names_that_do_not(name: str) -> None:
    """Known bad: a mask over everything would be safe and useless."""
    assert not looks_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to postgresql://app:{SECRET}@db:5432/talk",
        f"https://{SECRET}@host/",
        f"https://user:p@{SECRET}@host/path",
        f"sent Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET}==",
        f"Cookie: a=1; session={SECRET}",
        f"--password={SECRET}",
        f"psql --password {SECRET} -h db",
        f"PGPASSWORD={SECRET} psql",
        f"GET /x?token={SECRET}&n=1",
        f'{{"api_key": "{SECRET}"}}',
        f"{{'password': '{SECRET}'}}",
        f"bearer {SECRET}",
        f'{{"undo":"run-command","command":["deploy","--token","{SECRET}"]}}',
        f"ALTER ROLE pay PASSWORD '{SECRET}'",
        f"create user 'pay' identified by '{SECRET}'",
    ],
)
def test_shapes_are_covered_without_knowing_the_value(text: str) -> None:
    """In any text, even of a spec that could not be read."""
    assert SECRET not in mask_shapes(text)
    assert MASK in mask_shapes(text)
    assert mask_shapes(mask_shapes(text)) == mask_shapes(text)


@pytest.mark.parametrize(
    "text",
    [
        "members[?role=='leader'].name | [0] == 'pg-pangyo'",
        "entries[].{id: id, hash: hash}",
        "/entries?writer={writer}&after={after}",
        "/x?key={id}",
        "http://pg-pangyo:8008/cluster",
        "postgresql://pg-pangyo:5432,pg-anyang:5432/talk?target_session_attrs=read-write",
        "app.rto: 1.00..1.05 s is not below 5.0 s",
        "chaoslab run idc-fire --runtime embedded --seed 4711",
        '["etcd", "--name", "etcd-a", "--key-file", "/etc/etcd/key.pem"]',
        "GRANT SELECT ON entries TO 'pay'",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Known bad: what the judge and people need is left alone."""
    assert mask_shapes(text) == text


def test_the_argument_after_an_option_is_covered() -> None:
    """In its place and elsewhere, as in one text; a file is not its content. Known bad: the resolved spec held it as it was."""
    command = ["deploy", "--token", SECRET, "--key-file", "keys/deploy", "--password", "--user", "pay", "-x", "{token}"]
    secrets = gather([{"run": command}])
    assert secrets.tree({"run": command})["run"] == [*command[:2], MASK, *command[3:]]
    assert secrets.text(f"{SECRET} pay keys/deploy") == f"{MASK} pay keys/deploy"


@given(NAMES, VALUES, st.text(max_size=20), st.text(max_size=20))
def test_a_gathered_value_is_nowhere_left(name: str, value: str, before: str, after: str) -> None:
    """Property: in its place, in free text around it, quoted for a URL and escaped for JSON."""
    secrets = gather([{"environment": {name: value}}])
    if not secrets.values:
        return
    told = {"environment": {name: value}, "log": f"{before} {value} {after}", "nested": [{"x": value}]}
    if re.search(r"(user|role|owner|database|db|host)\w*\W*$", before, re.IGNORECASE):
        return
    covered = secrets.tree(told)
    assert covered["environment"][name] == MASK
    assert not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", covered["log"])
    assert covered["nested"] == [{"x": MASK}]
    assert json.dumps(value)[1:-1] not in secrets.text(json.dumps({"x": value})).replace(MASK, "")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=10), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_the_shape_of_data_stays(data: object) -> None:
    """Property: keys, lengths and whatever is neither text nor secret are as they were; twice is the same as once."""

    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(inner) for inner in value] if isinstance(value, list) else None

    covered = Secrets().tree(data)
    assert shape(covered) == shape(data)
    assert Secrets().tree(covered) == covered


def test_what_is_referred_to_is_gathered() -> None:
    """A value from the environment of whoever runs it is as secret as one that is written out."""
    secrets = gather([{"TOKEN": "${MINE}"}], expand=lambda text: text.replace("${MINE}", SECRET))
    assert secrets.text(f"it is {SECRET}.") == f"it is {MASK}."


def test_pieces_of_a_value_are_covered_too() -> None:
    """A scheme's credentials, one cookie of several, one line of a private key."""
    secrets = gather(
        [{"Authorization": f"Bearer {SECRET}", "Cookie": "lang=ko; sid=abcdef99", "KEY": "-----BEGIN\nMIIEvQ\n-----END"}]
    )
    for piece in (SECRET, "abcdef99", "MIIEvQ"):
        assert piece not in secrets.text(f"<{piece}>")


def test_names_of_the_spec_stay_readable() -> None:
    """Known bad: a password that is a service's name would blot out the service; it is covered in its place alone."""
    secrets = gather([{"PASSWORD": "postgres"}], names=["postgres-east"])
    assert secrets.text("postgres-east is up") == "postgres-east is up"
    assert secrets.tree({"PASSWORD": "postgres"}) == {"PASSWORD": MASK}


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/15/bin"),
        (
            'FATAL: password authentication failed for user "postgres"',
            'FATAL: password authentication failed for user "postgres"',
        ),
        ('{"error": "role \\"postgres\\" is unknown"}', '{"error": "role \\"postgres\\" is unknown"}'),
        ("host=postgres dbname=postgres connected", "host=postgres dbname=postgres connected"),
        ("tried postgres, refused", "tried ***, refused"),
        ("PGPASSWORD=postgres psql", "PGPASSWORD=*** psql"),
        ("postgresql://app:postgres@db/x", "postgresql://***@db/x"),
    ],
)
def test_a_secret_that_is_a_word_is_covered_as_a_word(text: str, covered: str) -> None:
    """Known bad: every log read `/usr/lib/***ql/15` and `user "***"`."""
    assert gather([{"POSTGRES_PASSWORD": "postgres"}]).text(text) == covered


def test_a_long_secret_is_covered_inside_words() -> None:
    """Known bad: borders around a token would let it through where something is glued to it."""
    assert SECRET not in gather([{"TOKEN": SECRET}]).text(f"x{SECRET}y")


@pytest.mark.parametrize(
    "named",
    [{"POSTGRES_USER": "postgres"}, {"PGDATABASE": "postgres"}, {"DB": "postgres"}, {"URL": "pg://postgres:secret-1@host/x"}],
)
def test_a_name_of_a_user_or_a_database_stays_readable(named: dict[str, str]) -> None:
    """Known bad: the same value is a password, too. In its place it is covered."""
    secrets = gather([{"POSTGRES_PASSWORD": "postgres"}, named])
    assert secrets.text("postgres is up") == "postgres is up"
    assert secrets.tree({"POSTGRES_PASSWORD": "postgres"}) == {"POSTGRES_PASSWORD": MASK}


def test_what_is_covered_is_told_and_the_values_are_not() -> None:
    secrets = gather([{"TOKEN": SECRET, "A_PASSWORD": "postgres", "B_PASSWORD": "main", "C_PASSWORD": "shop"}], names=["shop"])
    assert secrets.told == {
        "TOKEN": "everywhere",
        "A_PASSWORD": "as a whole word, but not as a user, a database or a host",
        "B_PASSWORD": "in its place alone: it is shorter than 5 characters",
        "C_PASSWORD": "in its place alone: the same is a name elsewhere",
    }
    assert secrets.summary()["everywhere"] == "TOKEN"
    assert secrets.tree(secrets.summary()) == secrets.summary(), "known bad: the report of what is covered was covered, too"


def test_rows_keep_what_the_judge_reads() -> None:
    """Free text is covered; ids, outcomes and instants are not touched, whatever the secret is."""
    secrets = Secrets(frozenset([SECRET, "acked", "12345"]))
    probe = Probe(
        **{"t_ns": 12345, "journey": SECRET, "service": "s", "op": "write", "due_ns": 1, "sent_ns": 2, "end_ns": 3},
        **{"good": False, "outcome": "acked", "id": SECRET, "error": f"said {SECRET}"},
    )
    covered = secrets.row(probe)
    assert covered.error == f"said {MASK}"
    assert (covered.t_ns, covered.journey, covered.id, covered.outcome) == (12345, SECRET, SECRET, "acked")
    for row in (
        Note(t_ns=1, level="error", text=f"x {SECRET}", detail={"log": [SECRET]}),
        Condition(t_ns=1, id="c", holds=False, observed=f"seen: {SECRET}"),
        Fault(t_ns=1, id="f", name="exec", target="f", event="effective", detail={"said": SECRET, "token": "abc"}),
    ):
        assert SECRET not in str(secrets.row(row))
        assert "abc" not in str(secrets.row(row))
