-- +goose Up
alter table customers alter column email drop default;
