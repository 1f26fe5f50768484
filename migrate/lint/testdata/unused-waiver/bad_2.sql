-- +goose Up
-- landlord: allow=rename nobody knows it
alter table orders add column a text;
