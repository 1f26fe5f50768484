-- +goose Up
comment on column orders.note is 'drop schema old';
