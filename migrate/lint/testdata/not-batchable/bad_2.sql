-- landlord: phase=backfill
-- +goose Up
update orders set note = 'x' where note is null;
update tiny set name = 'x' where name is null;
