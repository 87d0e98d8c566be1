-- People, groups and deletions.
-- `rostro database migrate` owns the schema; `rostro serve` only reads and writes rows.

-- One row. `counter` numbers the changes: updating it in the transaction of a change makes the
-- numbers visible in their order, which a sequence does not.
CREATE TABLE gallery (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id          uuid    NOT NULL,
    counter     bigint  NOT NULL DEFAULT 0 CHECK (counter >= 0)
);

-- Keys of the hashes in `tombstone`: of this gallery, and of those whose archives it imported.
CREATE TABLE tombstone_key (
    gallery     uuid    PRIMARY KEY,
    key         bytea   NOT NULL CHECK (octet_length(key) = 32)
);

-- A person. `number` is the change that wrote their samples last. Ids that differ only in case have
-- one `case_key`. It is not unique, because older galleries have such pairs.
CREATE TABLE person (
    person      bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text    COLLATE "C" NOT NULL UNIQUE,
    case_key    text    COLLATE "C" NOT NULL,
    number      bigint  NOT NULL,
    enrolled_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX person_case_key ON person (case_key);
CREATE INDEX person_number ON person (number);

-- Samples in force, in order. Those of the contract of position 0 are in the person's CSV file.
-- Arrays of `real` hold every bit of an embedding.
CREATE TABLE sample (
    person      bigint  NOT NULL REFERENCES person ON DELETE CASCADE,
    position    integer NOT NULL,
    contract    text    COLLATE "C",
    enrolment   text    COLLATE "C",
    det_score   real,
    embedding   real[]  NOT NULL,
    raw         real[],
    PRIMARY KEY (person, position)
);

-- Random numbers, which the server would try to compress.
ALTER TABLE sample
    ALTER COLUMN embedding SET STORAGE EXTERNAL,
    ALTER COLUMN raw SET STORAGE EXTERNAL;

-- Templates that a policy made of a person's samples, so that other nodes and later starts need not
-- make them. `key` identifies contract, policy, settings and limits. `templates` has their length (4
-- bytes) and their numbers (4 bytes each), little-endian; it is empty if the person has no samples of
-- the contract.
CREATE TABLE template_key (
    key         bytea   PRIMARY KEY CHECK (octet_length(key) = 32),
    used_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE template (
    key         bytea   NOT NULL REFERENCES template_key ON DELETE CASCADE,
    person      bigint  NOT NULL REFERENCES person ON DELETE CASCADE,
    templates   bytea   NOT NULL,
    PRIMARY KEY (key, person)
);
ALTER TABLE template ALTER COLUMN templates SET STORAGE EXTERNAL;
CREATE INDEX template_person ON template (person);

-- A changed sample leaves no template of its person, so that a template is of the stored samples,
-- also after a change by SQL.
CREATE FUNCTION forget_templates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM rostro.template WHERE person IN (SELECT person FROM changed);
    RETURN NULL;
END $$;
CREATE TRIGGER forget_templates_of_new AFTER INSERT ON sample
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION forget_templates();
CREATE TRIGGER forget_templates_of_changed AFTER UPDATE ON sample
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION forget_templates();
CREATE TRIGGER forget_templates_of_old AFTER DELETE ON sample
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION forget_templates();

CREATE TABLE groups (
    name        text    COLLATE "C" PRIMARY KEY
);

-- Members are ids rather than people, because a group may name a person before the enrolment.
CREATE TABLE member (
    name        text    COLLATE "C" NOT NULL REFERENCES groups ON DELETE CASCADE,
    id          text    COLLATE "C" NOT NULL,
    PRIMARY KEY (name, id)
);
CREATE INDEX member_id ON member (id);

-- Deletions, under a keyed hash of the id.
CREATE TABLE tombstone (
    gallery     uuid    NOT NULL REFERENCES tombstone_key,
    mac         bytea   NOT NULL CHECK (octet_length(mac) = 32),
    number      bigint  NOT NULL,
    deleted_at  bigint  NOT NULL,
    PRIMARY KEY (gallery, mac)
);

-- The audit log of all nodes: lines of JSON as they are in the file `audit.jsonl`. A node that sends
-- a line twice stores it once, by its digest.
CREATE TABLE audit (
    digest      bytea   PRIMARY KEY CHECK (octet_length(digest) = 32),
    number      bigint  GENERATED ALWAYS AS IDENTITY,
    time        timestamptz NOT NULL,
    line        text    NOT NULL
);
CREATE INDEX audit_time ON audit (time, number);

-- Keys of the hashes that stand for people in the audit log. `made` is a time in RFC 3339, to the
-- nanosecond.
CREATE TABLE audit_key (
    made        text    PRIMARY KEY,
    key         bytea   NOT NULL CHECK (octet_length(key) = 32)
);
