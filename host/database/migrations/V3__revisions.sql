-- Revisions of the pipeline, which all nodes serve, and the components that they are made of.

-- One row: the record in the form of the file `revisions.json`. `number` is the change that wrote it,
-- by which a node notices that another one wrote it since.
CREATE TABLE revisions (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number      bigint  NOT NULL,
    record      bytea   NOT NULL
);

CREATE TABLE component (
    digest      bytea   PRIMARY KEY CHECK (octet_length(digest) = 32),
    bytes       bytea   NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now()
);

-- What each node has staged: an object with a revision's id and `staged`, or the reason why not.
ALTER TABLE lease ADD COLUMN revisions jsonb NOT NULL DEFAULT '{}';

ALTER TABLE change ADD COLUMN is_revisions boolean NOT NULL DEFAULT false;
