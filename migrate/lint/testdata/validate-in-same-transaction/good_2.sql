-- +goose Up
alter table orders drop constraint if exists c, add constraint d check (total > 1) not valid;
