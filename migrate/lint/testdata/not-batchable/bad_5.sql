-- landlord: phase=backfill
-- +goose NO TRANSACTION
-- +goose Up
update orders set note = 'x' where note is null;
