-- landlord: phase=backfill
-- +goose Up
update orders o set note = c.name from customers c where c.id = o.customer_id and o.note is null returning o.id;
