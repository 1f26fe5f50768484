-- landlord: phase=backfill
-- +goose Up
with some as (select id from tiny) update orders set note = 'x' from some where some.id = orders.id;
