-- +goose Up
alter table orders drop if exists note cascade;
