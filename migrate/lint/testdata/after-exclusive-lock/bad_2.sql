-- landlord: phase=backfill
-- +goose Up
update tiny set name = 'x' where name is null;
alter table orders add column a text;
update tiny set name = 'y';
