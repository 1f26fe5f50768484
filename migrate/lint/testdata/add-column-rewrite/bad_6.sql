-- +goose Up
alter table orders add column a bigint default nextval('s');
