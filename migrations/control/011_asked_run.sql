-- A run that somebody has asked for, and that has not begun: its files are still being looked at.

-- +goose Up

create table landlord.asked_run (
    one    boolean     primary key default true check (one),
    files  text        not null, -- digest of the migrations, as in runs
    folder text        not null, -- where whoever asked for it has them
    flags  text        not null, -- what else was asked for, in the command's own words
    at     timestamptz not null default now()
);
