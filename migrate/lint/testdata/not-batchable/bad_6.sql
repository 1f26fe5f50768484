-- landlord: phase=backfill
-- +goose Up
select 1;
