-- +goose Up
alter table customers alter column email type varchar;
