-- +goose Up
alter table orders set schema archive;
