-- What a run tells about itself.

-- +goose Up

alter table landlord.runs
    add column phases      text[]      not null default '{}',   -- of its files, in their order
    add column allow_drift boolean     not null default false,  -- homes that have drifted are migrated, too
    add column seen_until  timestamptz;                         -- a process that works on it has said that it is there until then
