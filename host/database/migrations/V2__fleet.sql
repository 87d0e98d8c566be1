-- Nodes that share the database: their leases, and the feed of changes that each of them applies.

-- `generation` is raised by a restore. Leases of an epoch before `settled_epoch` have ended.
-- `stale_reads` says whether nodes may answer without a lease. It is `ending` until no node can
-- believe that they may. `stale_ms` is for how long, `stale_number` counts the changes, and
-- `stale_epoch` is the epoch since which every node that may is in `lease`.
ALTER TABLE gallery
    ADD COLUMN generation    bigint  NOT NULL DEFAULT 0,
    ADD COLUMN settled_epoch text    COLLATE "C",
    ADD COLUMN stale_reads   text    NOT NULL DEFAULT 'off'
        CHECK (stale_reads IN ('off', 'on', 'ending')),
    ADD COLUMN stale_ms      integer NOT NULL DEFAULT 0 CHECK (stale_ms >= 0),
    ADD COLUMN stale_number  bigint  NOT NULL DEFAULT 0,
    ADD COLUMN stale_epoch   text    COLLATE "C";

-- Returns the epoch to which numbers belong. A standby that is promoted begins another timeline, and
-- a copy of the rows in another cluster has another system identifier.
CREATE FUNCTION epoch() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s-%s-%s', system_identifier,
        substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), generation)
    FROM pg_control_system(), rostro.gallery
$$;

-- A node answers from memory only under its lease. No two clocks are compared: a lease
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
    -- The node may answer for at most `stale_ms` after it lost the lease, and knows the change
    -- `stale_number` of the setting.
    stale_ms    integer NOT NULL DEFAULT 0 CHECK (stale_ms >= 0),
    stale_number bigint NOT NULL DEFAULT 0,
    -- For people, not for the protocol. An operator sets `is_draining`, and the node reads it when it
    -- renews.
    is_draining boolean NOT NULL DEFAULT false,
    -- What the node reports of its requests, for the circuit breaker of all nodes.
    health      text    NOT NULL DEFAULT '',
    -- Whether it has the active revision, and the breaker did not trip.
    is_ready    boolean NOT NULL DEFAULT false,
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
