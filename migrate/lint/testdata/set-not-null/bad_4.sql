-- +goose Up
-- The proof is dropped before anybody looks at it.
alter table orders alter column checked set not null, drop constraint orders_checked;
