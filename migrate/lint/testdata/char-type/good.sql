-- +goose Up
alter table orders add column a character varying(2);
