-- Sessions of all nodes: who is present in the frames of a stream.

-- Address at which callers reach a node; empty if its operator configured none.
ALTER TABLE lease ADD COLUMN address text NOT NULL DEFAULT '';

-- The node with the lease has the session: it alone writes it. `head` and `state` are JSON. `used_ms`
-- is when the session ended, or else was last used, in milliseconds since 1970.
CREATE TABLE session (
    id          uuid    PRIMARY KEY,
    lease       uuid    NOT NULL,
    owner       text    COLLATE "C",
    head        text    NOT NULL,
    state       text    NOT NULL,
    is_open     boolean NOT NULL,
    used_ms     bigint  NOT NULL
);
CREATE INDEX session_owner ON session (owner);
CREATE INDEX session_used ON session (used_ms);

-- What a session knows about a person, as JSON. A deletion of the person removes it.
CREATE TABLE session_person (
    session     uuid    NOT NULL REFERENCES session ON DELETE CASCADE,
    id          text    COLLATE "C" NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    presence    text    NOT NULL,
    PRIMARY KEY (session, id)
);
CREATE INDEX session_person_id ON session_person (id);

-- Events, as JSON. Texts of the policy may have ids of other people, which a deletion searches.
CREATE TABLE session_event (
    session     uuid    NOT NULL REFERENCES session ON DELETE CASCADE,
    number      bigint  NOT NULL CHECK (number > 0),
    id          text    COLLATE "C" REFERENCES person (id) ON DELETE CASCADE,
    is_policy   boolean NOT NULL,
    event       text    NOT NULL,
    PRIMARY KEY (session, number)
);
CREATE INDEX session_event_id ON session_event (id) WHERE id IS NOT NULL;
CREATE INDEX session_event_policy ON session_event (session, number) WHERE is_policy;

-- One row: the node that delivers the events of all nodes.
CREATE TABLE deliverer (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    lease       uuid    NOT NULL
);

-- Receivers of events. `topics` is a JSON list of those that its broker may retain.
CREATE TABLE receiver (
    name        text    COLLATE "C" PRIMARY KEY,
    topics      text    NOT NULL DEFAULT '[]'
);

-- Number of the event of a session that a receiver got last.
CREATE TABLE delivery (
    receiver    text    COLLATE "C" NOT NULL REFERENCES receiver ON DELETE CASCADE,
    session     uuid    NOT NULL REFERENCES session ON DELETE CASCADE,
    delivered   bigint  NOT NULL,
    PRIMARY KEY (receiver, session)
);
CREATE INDEX delivery_session ON delivery (session);
