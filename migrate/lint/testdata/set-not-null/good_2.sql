-- +goose Up
alter table customers alter column email set not null;
