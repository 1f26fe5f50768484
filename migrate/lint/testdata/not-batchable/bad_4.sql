-- landlord: phase=backfill scope=database
-- +goose Up
update orders set note = 'x' where note is null;
