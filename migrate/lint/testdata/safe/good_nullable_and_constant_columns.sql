-- +goose Up
alter table orders
    add column a text,
    add column b int not null default 0,
    add column c timestamptz not null default now(),
    add column d jsonb default '{}'::jsonb,
    add column e numeric(12, 2) default 1.5::numeric(12, 2),
    add column f uuid default null,
    add column if not exists g text collate "C" not null default 'x (y)';
