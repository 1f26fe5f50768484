-- Runs that take migrations back.

-- +goose Up

-- Homes above the version newest are brought down to it.
alter table landlord.runs add column down boolean not null default false;
