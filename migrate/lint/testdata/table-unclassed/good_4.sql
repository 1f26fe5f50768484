-- landlord: scope=database
-- +goose Up
create table a (id bigint primary key);
