-- +goose Up
alter table orders add constraint c check (total > 1) not valid;
alter table orders validate constraint c;
