-- +goose Up
-- landlord: allow=drop-tables they are gone anyhow
select 1;
