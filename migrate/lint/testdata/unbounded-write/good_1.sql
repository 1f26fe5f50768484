-- landlord: phase=backfill
-- +goose Up
update orders set note = 'x' where note is null;
