-- Nodes that share the database: their leases, and the feed of changes that each of them applies.

-- `generation` is raised by a restore. Leases of an epoch before `settled_epoch` have ended.
ALTER TABLE gallery
    ADD COLUMN generation    bigint NOT NULL DEFAULT 0,
    ADD COLUMN settled_epoch text   COLLATE "C";

-- Returns the epoch to which numbers belong. A standby that is promoted begins another timeline, and
-- a copy of the rows in another cluster has another system identifier.
CREATE FUNCTION epoch() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s-%s-%s', system_identifier,
        substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), generation)
    FROM pg_control_system(), rostro.gallery
$$;

-- A node answers from memory only under its lease. Nobody compares times of two clocks: a lease
-- counts from the moment when its node began to renew it, and ends for others when `renewed` did
-- not change for `length_ms` and a margin on their own clock.
CREATE TABLE lease (
    lease       uuid    PRIMARY KEY,
    node        text    NOT NULL,
    version     text    NOT NULL,
    length_ms   integer NOT NULL CHECK (length_ms > 0),
    -- Number of renewals.
    renewed     bigint  NOT NULL DEFAULT 0,
    -- The node applied every change up to this number.
    applied     bigint  NOT NULL,
    is_serving  boolean NOT NULL DEFAULT false,
    is_expelled boolean NOT NULL DEFAULT false,
    -- Settings that change answers, texts by key. A node that differs from a live one does not start.
    settings    jsonb   NOT NULL,
    -- For people, not for the protocol. An operator sets `is_draining`, and the node reads it when it
    -- renews.
    is_draining boolean NOT NULL DEFAULT false,
    -- What the node reports of its requests, for the circuit breaker of all nodes.
    health      text    NOT NULL DEFAULT '',
    joined_at   timestamptz NOT NULL DEFAULT now(),
    renewed_at  timestamptz NOT NULL DEFAULT now()
);

-- The feed: one row for each number. People are named by their surrogate key alone, because the row
-- of a deletion outlives the person. A deletion is waited for.
CREATE TABLE change (
    number      bigint  PRIMARY KEY,
    person      bigint,
    group_name  text    COLLATE "C",
    is_awaited  boolean NOT NULL DEFAULT false,
    made_at     timestamptz NOT NULL DEFAULT now()
);
