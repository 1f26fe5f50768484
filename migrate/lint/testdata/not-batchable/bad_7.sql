-- landlord: phase=backfill
-- +goose Up
delete from orders where ctid in (select ctid from orders where note is null);
