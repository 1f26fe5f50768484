-- +goose Up
alter table orders add constraint n not null total;
