-- What the services keep. Run once, by the node that creates the cluster (psql, as superuser).
-- A failover opens a hundred connections at once; the usual 4096 iterations would cost seconds of two small cores.
SET scram_iterations = 256;
\getenv password APP_PASSWORD
CREATE ROLE app LOGIN PASSWORD :'password';
CREATE DATABASE app OWNER app;
\connect app
SET ROLE app;

CREATE TABLE sessions (
    id      text PRIMARY KEY,
    writer  text   NOT NULL,
    seq     bigint NOT NULL,
    payload text   NOT NULL
);
CREATE INDEX ON sessions (writer, seq);

CREATE TABLE messages (
    id      text PRIMARY KEY,
    writer  text   NOT NULL,
    seq     bigint NOT NULL,
    payload text   NOT NULL,
    arrival bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX ON messages (writer, seq);
CREATE INDEX ON messages (arrival);

-- Double entry: a row takes an amount from one account and gives it to another, so the books balance by their shape.
CREATE TABLE entries (
    id      text PRIMARY KEY,
    writer  text   NOT NULL,
    seq     bigint NOT NULL,
    payload text   NOT NULL,
    debit   text   NOT NULL,
    credit  text   NOT NULL,
    amount  bigint NOT NULL CHECK (amount > 0),
    CHECK (debit <> credit)
);
CREATE INDEX ON entries (writer, seq);
CREATE INDEX ON entries (debit) INCLUDE (amount);
CREATE INDEX ON entries (credit) INCLUDE (amount);

INSERT INTO sessions (id, writer, seq, payload) VALUES ('demo', 'schema', 0, 'the session of every visitor');
