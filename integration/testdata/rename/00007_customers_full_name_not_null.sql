-- landlord: phase=validate
-- +goose Up
-- Reads no row: the constraint proves it.
alter table customers alter column full_name set not null;
