-- landlord: phase=backfill
-- +goose Up
-- The rows from before. New ones come with both.
update customers set full_name = name where full_name is null;
