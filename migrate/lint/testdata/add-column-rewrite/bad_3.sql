-- +goose Up
alter table orders add a bigserial;
