-- What stands between one wave of a run and the next: a time to wait, and a look at whether all is well.

-- +goose Up

alter table landlord.runs
    add column soak         interval    not null default '0' check (soak >= '0'),
    add column checked      boolean     not null default false, -- a health command is asked after the soak time; it is never stored
    add column wave_done_at timestamptz,                        -- when nothing was left to do in the wave; null: something is
    add column passed       integer     not null default 0,     -- the last wave after which the next one may begin
    add column checker      text,                               -- the process that asks the health command
    add column check_until  timestamptz;                        -- another process may ask it then
