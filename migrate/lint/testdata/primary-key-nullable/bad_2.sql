-- +goose Up
alter table legacy add primary key using index legacy_key;
