-- landlord: phase=backfill
-- +goose Up
-- Old rows go.
delete from only orders where total < 0;
