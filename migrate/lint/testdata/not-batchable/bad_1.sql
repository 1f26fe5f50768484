-- landlord: phase=backfill
-- +goose Up
insert into tiny (name) select note from orders;
