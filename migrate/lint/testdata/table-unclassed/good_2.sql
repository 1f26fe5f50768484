-- +goose Up
create table a (code text primary key);
comment on table a is 'landlord: reference';
